package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/migrations"
)

// buildVersion is set by the linker where a release is built:
// -ldflags "-X main.buildVersion=v1.2.3".
var buildVersion string

type buildView struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Schema   int32  `json:"schema"` // the version of the schema that this build knows
}

func thisBuild() buildView {
	v := buildView{Version: buildVersion, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Schema: migrations.Known()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Version == "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say what this build is", Args: cobra.NoArgs,
		Example: "  authz version --json",
		RunE: func(*cobra.Command, []string) error {
			v := thisBuild()
			return p.print(v, func(w io.Writer) {
				fmt.Fprintf(w, "authz %s\n", v.Version)
				if v.Revision != "" {
					fmt.Fprintf(w, "revision  %s (modified: %t)\n", v.Revision, v.Modified)
				}
				fmt.Fprintf(w, "built by  %s for %s\nschema    %d\n", v.Go, v.Platform, v.Schema)
			})
		},
	}
}
