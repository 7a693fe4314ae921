package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/cargokey/authz/authz"
)

// gatewayListener is a listener that tells by itself which gateway is there.
type gatewayListener struct {
	net.Listener
	identify func(*http.Request, time.Time) authz.GatewayClaim
}

// validateGateways checks the variables of both kinds.
func (c *config) validateGateways() error {
	for _, text := range c.GatewaySockets {
		if _, _, err := parseSocket(text); err != nil {
			return err
		}
	}
	set := 0
	files := []string{c.GatewayTLSCertFile, c.GatewayTLSKeyFile, c.GatewayClientCAFile}
	for _, file := range files {
		if file != "" {
			set++
		}
	}
	if c.GatewayListen == "" && set == 0 {
		return nil
	}
	if c.GatewayListen == "" || set < len(files) {
		return errors.New("AUTHZ_GATEWAY_LISTEN, AUTHZ_GATEWAY_TLS_CERT_FILE, AUTHZ_GATEWAY_TLS_KEY_FILE and AUTHZ_GATEWAY_CLIENT_CA_FILE are set together or not at all")
	}
	if _, port, err := net.SplitHostPort(c.GatewayListen); err != nil || port == "" {
		return badValue("AUTHZ_GATEWAY_LISTEN", c.GatewayListen, fieldTag("GatewayListen", "desc")+", as host:port or :port")
	}
	return nil
}

func parseSocket(text string) (clientID, path string, err error) {
	clientID, path, ok := strings.Cut(strings.TrimSpace(text), "=")
	if !ok || clientID == "" || path == "" {
		return "", "", badValue("AUTHZ_GATEWAY_SOCKETS", text, fieldTag("GatewaySockets", "desc"))
	}
	return clientID, path, nil
}

// gatewayListeners opens all of them, or none.
func (c *config) gatewayListeners(log *slog.Logger) (opened []gatewayListener, err error) {
	defer func() {
		if err != nil {
			closeAll(opened)
		}
	}()
	for _, text := range c.GatewaySockets {
		clientID, path, err := parseSocket(text)
		if err != nil {
			return opened, err
		}
		l, err := listenUnix(path)
		if err != nil {
			return opened, fmt.Errorf("AUTHZ_GATEWAY_SOCKETS: %w", err)
		}
		opened = append(opened, gatewayListener{l, authz.SocketGateway(clientID)})
	}
	if c.GatewayListen == "" {
		return opened, nil
	}
	l, err := c.listenMutualTLS(log)
	if err != nil {
		return opened, err
	}
	return append(opened, l), nil
}

func closeAll(listeners []gatewayListener) {
	for _, l := range listeners {
		l.Close()
	}
}

// socketMode lets the owner and the group of a socket connect: the group is
// given by the directory it is in, or by whom the server runs as.
const socketMode = 0o660

// listenUnix takes the place of a socket that a process left behind, and of
// nothing else.
func listenUnix(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		info, errStat := os.Lstat(path)
		if errStat != nil || info.Mode().Type() != os.ModeSocket {
			return nil, err
		}
		if conn, errDial := net.DialTimeout("unix", path, time.Second); errDial == nil {
			conn.Close()
			return nil, fmt.Errorf("%s: somebody listens there already", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		l, err = net.Listen("unix", path)
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// listenMutualTLS is RFC 8705 §2.1: no connection is made without a certificate
// of the authorities in the file, which is for gateways alone. An authority that is
// taken out of it vouches for nobody from then on, on connections that there are too.
func (c *config) listenMutualTLS(log *slog.Logger) (gatewayListener, error) {
	known := newAuthorities(c.GatewayClientCAFile, log)
	if _, err := known.get(); err != nil {
		return gatewayListener{}, fmt.Errorf("AUTHZ_GATEWAY_CLIENT_CA_FILE: %w", err)
	}
	own := newCertificate(c.GatewayTLSCertFile, c.GatewayTLSKeyFile, log)
	if _, err := own.get(); err != nil {
		return gatewayListener{}, fmt.Errorf("AUTHZ_GATEWAY_TLS_CERT_FILE, AUTHZ_GATEWAY_TLS_KEY_FILE: %w", err)
	}
	l, err := net.Listen("tcp", c.GatewayListen)
	if err != nil {
		return gatewayListener{}, fmt.Errorf("AUTHZ_GATEWAY_LISTEN: %w", err)
	}
	settings := &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own.get() },
		ClientAuth:     tls.RequireAndVerifyClientCert,
		// Some gateways keep few HTTP/1.1 connections, and a handshake for each call
		// costs more than the call.
		NextProtos: []string{"h2", "http/1.1"},
	}
	listening := settings.Clone()
	listening.ClientCAs = x509.NewCertPool() // nobody: nil would stand for the system's
	listening.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		authorities, err := known.get()
		if err != nil {
			return nil, err
		}
		now := settings.Clone()
		now.ClientCAs = authorities.pool
		return now, nil
	}
	return gatewayListener{tls.NewListener(l, listening), func(r *http.Request, at time.Time) authz.GatewayClaim {
		if authorities, err := known.get(); err != nil || !authorities.stillKnow(r.TLS) {
			return authz.GatewayClaim{}
		}
		return authz.CertificateGateway(r, at)
	}}, nil
}
