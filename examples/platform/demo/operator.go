package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
)

// operate runs an operator's command, tells it, and reads its answer.
func (p platform) operate(ctx context.Context, s *story, into any, args ...string) error {
	s.command("authz " + strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, p.authz, append([]string{"--json"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("authz %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("authz %s answers what is not JSON: %w", strings.Join(args, " "), err)
	}
	return nil
}
