package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// profiler is a file that is added to the server's package for a profile, and to
// nothing that is shipped.
//
//go:embed profiler.go.txt
var profiler []byte

// profilerVariable tells the server where it listens for orders.
const profilerVariable = "AUTHZBENCH_PROFILER"

// writeOverlay makes the go command see the file where it is not.
func writeOverlay(ctx context.Context, dir string) (string, error) {
	folder, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", serverPackage).Output()
	if err != nil {
		return "", fmt.Errorf("finding the source of authz: %w", err)
	}
	source, overlay := filepath.Join(dir, "profiler.go"), filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{
		"Replace": {filepath.Join(strings.TrimSpace(string(folder)), "authzbench_profiler.go"): source},
	})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(source, profiler, 0o600); err != nil {
		return "", err
	}
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// order tells the profiler of a server to start or to stop, and returns its answer.
func order(ctx context.Context, profiler, what string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+profiler+"/"+what, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("the server's profiler: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("the server's profiler: %s: %s", response.Status, body)
	}
	return body, err
}
