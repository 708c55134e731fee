package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holkas-io/holkas/cmd/holkas/internal/config"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// failure is an error of a command's work, as opposed to one of its usage.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// command is a subcommand whose settings come from flags, environment and file.
type command struct {
	name     string
	argument string // what it takes beside flags, if anything: "NODE"
	short    string
	long     string
	example  string
	settings *config.Set
	run      func(ctx context.Context, streams streams, argument string) error
}

type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run runs the program and returns its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, stderr io.Writer) int {
	root := newRoot(args)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	var failed failure
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &failed):
		fmt.Fprintf(stderr, "%s: %v\n", cmd.CommandPath(), err)
		return exitFailed
	}
	lines := strings.Split(err.Error(), "\n")
	fmt.Fprintf(stderr, "%s: what is wrong:\n  %s\nSee: %s --help\n", cmd.CommandPath(), strings.Join(lines, "\n  "), cmd.CommandPath())
	return exitUsage
}

func newRoot(args []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "holkas",
		Short: "A CSI storage driver that keeps stateful data portable",
		Long: "Holkas is a CSI storage driver that keeps stateful data portable.\n\n" +
			"A node runs an engine, which has the volumes, and the node service; one or\n" +
			"more controllers run anywhere. To see all of it at work on this machine:\n\n" +
			"  holkas demo",
		Example:       "  holkas demo\n  holkas engine --help",
		Version:       thisBuild().String(),
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	for _, c := range []command{controllerCommand(), nodeCommand(), engineCommand(), demoCommand(), retireCommand(), certsCommand(), versionCommand()} {
		root.AddCommand(c.cobra(args))
	}
	return root
}

// cobra renders the command. args is the whole command line: all that is wrong
// with it is said at once.
func (c command) cobra(args []string) *cobra.Command {
	use := c.name
	if c.argument != "" {
		use += " " + c.argument
	}
	cmd := &cobra.Command{
		Use: use, Short: c.short, Long: c.long, Example: c.example, DisableFlagsInUseLine: true,
		Args:               cobra.ArbitraryArgs, // looked at with the rest
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
	}
	c.settings.Flags(cmd.Flags())
	load := func(cmd *cobra.Command, faults ...error) error {
		faults = append(config.Unknown(cmd.Flags(), args), faults...)
		return c.settings.Load(os.Getenv, faults...)
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return load(cmd, err) })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		argument, faults := c.takeArgument(args)
		if err := load(cmd, faults...); err != nil {
			return err
		}
		err := c.run(cmd.Context(), streams{cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()}, argument)
		var usage config.Faults
		if err == nil || errors.As(err, &usage) {
			return err
		}
		return failure{err}
	}
	return cmd
}

func (c command) takeArgument(args []string) (argument string, faults []error) {
	if c.argument != "" {
		if len(args) == 0 {
			return "", []error{fmt.Errorf("%s: missing", c.argument)}
		}
		argument, args = args[0], args[1:]
	}
	for _, arg := range args {
		faults = append(faults, fmt.Errorf("%q: want no argument here: a setting is a flag", arg))
	}
	return argument, faults
}
