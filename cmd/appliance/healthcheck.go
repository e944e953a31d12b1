package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"carillon/admin/client"
	"carillon/internal/config"
)

// healthWait is less than the timeout of the image's HEALTHCHECK, so that the
// reason is printed and not only that it took too long.
const healthWait = 4 * time.Second

type healthcheckCmd struct {
	Config string `help:"Configuration file of the node." type:"path" env:"CARILLON_CONFIG"`
}

// Run asks the node for its readiness. Without --server it asks the node that
// the same configuration and environment would start, which is what a
// container's health check wants.
func (c *healthcheckCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	server := g.Server
	if server == "" {
		loaded, err := config.Load(config.Source{
			File: c.Config, Environ: os.Environ(), OtherEnv: clientEnv(),
		})
		if err != nil {
			return err
		}
		server = localServer(loaded.Config.HTTP.Bind)
	}
	api, err := client.New(server, "")
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	ctx, cancel := context.WithTimeout(ctx, healthWait)
	defer cancel()
	if err := api.Health(ctx); err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	if g.JSON {
		return printJSON(tty.out, map[string]string{"status": "ready"})
	}
	return printf(tty.out, "ready\n")
}
