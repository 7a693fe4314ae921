package main

import (
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

	mu      sync.Mutex
	has     bool
	loaded  T
	seen    []time.Time // when the files were modified that were last read
	failure string      // the last one, so that it is logged once
}

// get fails only before it has succeeded once. Files that have changed but cannot
// be used yet, such as ones that are half written, leave what was read last.
func (r *reread[T]) get() (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen, err := modified(r.files)
	if err == nil && r.has && slices.Equal(seen, r.seen) {
		return r.loaded, nil
	}
	if err == nil {
		r.seen = seen // also where it turns out unusable: once is enough
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

// modified is when the files were.
func modified(files []string) ([]time.Time, error) {
	var times []time.Time
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return nil, err
		}
		times = append(times, info.ModTime())
	}
	return times, nil
}
