// Command authz is the authorization server and what its operators and clients
// need beside it. `authz --help` lists the commands.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program; it returns its exit code.
func run(args []string, in io.Reader, out, errOut io.Writer) int {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup does
		signals = append(signals, syscall.SIGHUP) // a terminal that is closed
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	// Looked for here too, since cobra stops reading flags at the first bad one.
	p := &program{in: in, out: out, err: errOut, json: slices.Contains(args, "--json")}
	root := p.root()
	root.SetArgs(argumentsLast(args))
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	if err := root.ExecuteContext(ctx); err != nil {
		p.fail(err)
		return 1
	}
	return 0
}

// program is what the commands share.
type program struct {
	in       io.Reader
	out, err io.Writer
	json     bool
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "authz",
		Short: "An OAuth 2.0 authorization server that issues DPoP-bound tokens",
		Long: `authz issues OAuth 2.0 access tokens that are bound to a key their client holds
(DPoP, RFC 9449): a token stolen from a log or a proxy is worth nothing without it.

Start with "authz dev", which needs no configuration.`,
		Version:       thisBuild().Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Example:       "  authz dev\n  authz client create --help",
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().BoolVar(&p.json, "json", p.json, "print JSON, and errors as JSON")
	root.PersistentFlags().Lookup("json").DefValue = "false"
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	})
	// An argument is a name of something in the database, never a file's.
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.AddCommand(
		p.devCommand(), p.serveCommand(), p.migrateCommand(), p.databaseCommand(),
		p.resourceCommand(), p.clientCommand(), p.tokenCommand(), p.keyCommand(),
		p.dpopKeyCommand(), p.auditCommand(), p.alertsCommand(), p.requestCommand(), p.curlCommand(), p.healthcheckCommand(), p.versionCommand(),
	)
	addExamples(root)
	return root
}

// fail prints the error that ends the program.
func (p *program) fail(err error) {
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	if p.json {
		json.NewEncoder(p.err).Encode(map[string]string{"error": err.Error()})
		return
	}
	fmt.Fprintln(p.err, "authz:", err)
}

// warn says what does not end the program.
func (p *program) warn(text string) {
	if p.json {
		json.NewEncoder(p.err).Encode(map[string]string{"warning": text})
		return
	}
	fmt.Fprintln(p.err, "authz: warning:", text)
}

// print shows v as one line of JSON, or as text writes it, whole or with an
// error: what it shows may be a secret that is shown once.
func (p *program) print(v any, text func(io.Writer)) error {
	var b bytes.Buffer
	if p.json {
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false) // a URL's ampersands stay what they are
		if err := e.Encode(v); err != nil {
			return err
		}
	} else {
		text(&b)
	}
	if _, err := p.out.Write(b.Bytes()); err != nil {
		return fmt.Errorf("what was asked is done, but printing its outcome failed: %w", err)
	}
	return nil
}

// oneArgument is cobra.ExactArgs(1) with an error that says what to write.
func oneArgument(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("one argument is needed, and %d are given; write: %s", len(args), cmd.UseLine())
	}
	return nil
}

// addExamples completes the commands that cobra makes.
func addExamples(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Example = "  authz help client create"
		case "completion":
			c.Example = "  source <(authz completion bash)"
			c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			for _, shell := range c.Commands() {
				shell.Example = "  authz completion " + shell.Name()
			}
		}
	}
}

// group is a command that only holds others.
func group(use, short, example string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use: use, Short: short, Example: example, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	g.AddCommand(commands...)
	return g
}
