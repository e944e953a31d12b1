package main

// mediaCmd groups the commands on media items.
type mediaCmd struct {
	Put  mediaPutCmd  `cmd:"" help:"Store a file as an item, replacing what was there."`
	Get  mediaGetCmd  `cmd:"" help:"Fetch an item."`
	Ls   mediaLsCmd   `cmd:"" help:"List the items of an account."`
	Rm   mediaRmCmd   `cmd:"" help:"Remove items."`
	Info mediaInfoCmd `cmd:"" help:"Show what is known of an item."`
}
