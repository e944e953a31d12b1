package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

// program is the command line: its flags, and one small type per command.
type program struct {
	globals

	Serve       serveCmd       `cmd:"" help:"Run a node."`
	Demo        demoCmd        `cmd:"" help:"Run three nodes in one process and show what they do."`
	Config      configCmd      `cmd:"" help:"Work with configuration files."`
	Media       mediaCmd       `cmd:"" help:"Store, fetch and list media."`
	Prompts     promptsCmd     `cmd:"" help:"Import prompts and see what is missing."`
	Playlists   playlistsCmd   `cmd:"" help:"Playlists: music on hold of several items."`
	Accounts    accountsCmd    `cmd:"" help:"Settings per account: languages, retention, quotas, listeners."`
	Recordings  recordingsCmd  `cmd:"" help:"List, show, store and discard recordings."`
	Exports     exportsCmd     `cmd:"" help:"Look after recordings that are sent to other places."`
	Cluster     clusterCmd     `cmd:"" help:"Look at the cluster."`
	Events      eventsCmd      `cmd:"" help:"Read or follow what happens to media and recordings."`
	Webhooks    webhooksCmd    `cmd:"" help:"Post events to URLs."`
	Backup      backupCmd      `cmd:"" help:"Back up the whole cluster into a directory, and look after backups."` //nolint:lll // a tag is one line
	Restore     restoreCmd     `cmd:"" help:"Restore a backup into an empty cluster."`
	Healthcheck healthcheckCmd `cmd:"" help:"Exit with 0 if the node is ready, with 4 if not."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

// globals are the flags of every command that talks to a node.
type globals struct {
	Server string `help:"Node to talk to." placeholder:"URL" env:"CARILLON_SERVER"`
	Token  string `help:"API token." placeholder:"TOKEN" env:"CARILLON_TOKEN"`
	JSON   bool   `help:"Print JSON for programs."`
}

// clientEnv are the variables with our prefix that are not settings of a node.
func clientEnv() []string {
	return []string{"CARILLON_SERVER", "CARILLON_TOKEN", "CARILLON_CONFIG"}
}

// terminal is where a command reads and prints; tests exchange it.
type terminal struct {
	in  io.Reader
	out io.Writer
	err io.Writer
	// errIsTerminal says whether a person watches err, so that progress is
	// worth drawing; width is of that terminal.
	errIsTerminal bool
	width         int
	// outIsTerminal says whether out understands colors.
	outIsTerminal bool
}

func main() {
	tty := terminal{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	if fd := int(os.Stderr.Fd()); term.IsTerminal(fd) {
		tty.errIsTerminal = true
		tty.width, _, _ = term.GetSize(fd)
	}
	tty.outIsTerminal = term.IsTerminal(int(os.Stdout.Fd()))
	if startsNode(os.Args[1:]) {
		if err := tuneProcess(); err != nil {
			_, _ = fmt.Fprintf(tty.err, "appliance: %v\n", err)
		}
	}
	os.Exit(run(os.Args[1:], tty))
}

// run is the program without its process.
func run(args []string, tty terminal) int {
	var p program
	parser, err := kong.New(&p,
		kong.Name("appliance"),
		kong.Description("Carillon, the media appliance for FreeSWITCH.\n\n"+exitHelp),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Writers(tty.out, tty.err),
	)
	if err != nil {
		return fail(tty, fmt.Errorf("command line: %w", err))
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return fail(tty, fmt.Errorf("%w: %w", errUsage, err))
	}
	ctx, stop := interruptible(context.Background())
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	return fail(tty, parsed.Run(&p.globals, tty))
}

func fail(tty terminal, err error) int {
	code := exitCode(err)
	if err != nil && code != exitInterrupted {
		_, _ = fmt.Fprintf(tty.err, "appliance: %v\n", err)
	}
	return code
}

// interruptible ends the context at the first SIGINT or SIGTERM. The second
// ends the process at once: whoever insists does not want to wait.
func interruptible(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	done := make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for heard := 0; ; heard++ {
			select {
			case <-done:
				return
			case <-signals:
			}
			if heard > 0 {
				os.Exit(exitInterrupted)
			}
			cancel()
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel()
	}
}
