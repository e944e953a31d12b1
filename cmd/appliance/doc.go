// Command appliance is Carillon: one node of the media appliance (serve), a
// whole cluster to try (demo), and the command line client of both.
//
// It owns flags, configuration and wiring, and knows no protocol: serve opens
// the parts and closes them in reverse; every command that talks to a node
// does so through the HTTP API, as any other client would.
package main
