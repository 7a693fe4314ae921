package main

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// tlsListener serves TLS 1.3 only, with a certificate that is read again when
// its file changes, so that renewing it needs no restart.
func tlsListener(l net.Listener, certFile, keyFile string, clients tls.ClientAuthType, log *slog.Logger) (net.Listener, error) {
	c := newCertificate(certFile, keyFile, log)
	if _, err := c.get(); err != nil {
		l.Close()
		return nil, fmt.Errorf("AUTHZ_TLS_CERT_FILE, AUTHZ_TLS_KEY_FILE: %w", err)
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get() },
		// Whose a certificate is the server finds, at each request: the handshake
		// proves no more than that its private key is there.
		ClientAuth: clients,
		NextProtos: []string{"http/1.1"},
	}), nil
}

// newCertificate is a certificate with its key, of two files.
func newCertificate(certFile, keyFile string, log *slog.Logger) *reread[*tls.Certificate] {
	return &reread[*tls.Certificate]{
		what: "certificate", files: []string{certFile, keyFile}, log: log,
		read: func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(certFile, keyFile)
			return &pair, err
		},
	}
}

// reread is what files hold, read again when one of them changes.
type reread[T any] struct {
	what  string // for the log
	files []string
	read  func() (T, error)
	log   *slog.Logger
	now   func() time.Time // nil: time.Now

	mu      sync.Mutex
	has     bool
	loaded  T
	seen    []os.FileInfo // of the files as they were when they were last looked into
	sum     [sha256.Size]byte
	looked  time.Time // when that was
	failure string    // the last one, so that it is logged once
}

// rereadAge is how long files that look unchanged go without being looked into: on
// some systems all files have the same time, and what is written over in place can
// have the same size.
const rereadAge = time.Minute

// get fails only before it has succeeded once. Files that have changed but cannot
// be used yet, such as ones that are half written, leave what was read last.
func (r *reread[T]) get() (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed, err := r.changed()
	if err == nil && r.has && !changed {
		return r.loaded, nil
	}
	if err == nil {
		var loaded T
		if loaded, err = r.read(); err == nil {
			if r.has {
				r.log.Info(r.what+" read again", "file", r.files[0])
			}
			r.has, r.loaded, r.failure = true, loaded, ""
			return loaded, nil
		}
	}
	if !r.has {
		return r.loaded, err
	}
	if err.Error() != r.failure {
		r.log.Error(r.what+" cannot be read again; the last good one stays", "file", r.files[0], "cause", err)
		r.failure = err.Error()
	}
	return r.loaded, nil
}

// changed tells whether what is in the files is not what it was, once: also where
// it turns out unusable. It looks into them only where they look changed or that
// was a while ago.
func (r *reread[T]) changed() (bool, error) {
	now := time.Now
	if r.now != nil {
		now = r.now
	}
	var infos []os.FileInfo
	for _, file := range r.files {
		info, err := os.Stat(file)
		if err != nil {
			return false, err
		}
		infos = append(infos, info)
	}
	at := now()
	if age := at.Sub(r.looked); slices.EqualFunc(infos, r.seen, sameFile) && age >= 0 && age < rereadAge {
		return false, nil
	}
	sum := sha256.New()
	for _, file := range r.files {
		text, err := os.ReadFile(file)
		if err != nil {
			return false, err
		}
		digest := sha256.Sum256(text) // of one size: no two lists of files are alike
		sum.Write(digest[:])
	}
	last := r.sum
	r.seen, r.looked, r.sum = infos, at, [sha256.Size]byte(sum.Sum(nil))
	return r.sum != last, nil
}

func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
