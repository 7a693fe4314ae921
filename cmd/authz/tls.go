package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// tlsListener serves TLS 1.3 only, with a certificate that is read again when
// its file changes, so that renewing it needs no restart.
func tlsListener(l net.Listener, certFile, keyFile string, log *slog.Logger) (net.Listener, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if _, err := c.get(nil); err != nil {
		l.Close()
		return nil, fmt.Errorf("AUTHZ_TLS_CERT_FILE, AUTHZ_TLS_KEY_FILE: %w", err)
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: c.get,
		NextProtos:     []string{"http/1.1"},
	}), nil
}

// certificate is a certificate on disk.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	loaded  *tls.Certificate
	seen    [2]time.Time // when the files were modified that were last read
	failure string       // the last one, so that it is logged once
}

// get is a tls.Config's GetCertificate. A file that has changed but cannot be
// used yet, such as one that is half written, leaves the last good one.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, err := modified(c.certFile, c.keyFile)
	if err == nil && c.loaded != nil && seen == c.seen {
		return c.loaded, nil
	}
	if err == nil {
		c.seen = seen // also where it turns out unusable: once is enough
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(c.certFile, c.keyFile); err == nil {
			if c.loaded != nil {
				c.log.Info("certificate read again", "file", c.certFile)
			}
			c.loaded, c.failure = &pair, ""
			return c.loaded, nil
		}
	}
	if c.loaded == nil {
		return nil, err
	}
	if err.Error() != c.failure {
		c.log.Error("certificate cannot be read again; the last good one stays", "file", c.certFile, "cause", err)
		c.failure = err.Error()
	}
	return c.loaded, nil
}

// modified is when the two files were.
func modified(certFile, keyFile string) (times [2]time.Time, err error) {
	for i, file := range []string{certFile, keyFile} {
		info, err := os.Stat(file)
		if err != nil {
			return times, err
		}
		times[i] = info.ModTime()
	}
	return times, nil
}
