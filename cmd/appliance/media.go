package main

// mediaCmd groups the commands on media items.
type mediaCmd struct {
	Put mediaPutCmd `cmd:"" help:"Store a file as an item, replacing what was there."`
	Get mediaGetCmd `cmd:"" help:"Fetch an item."`
	Ls  mediaLsCmd  `cmd:"" help:"List the items of an account."`
	Rm  mediaRmCmd  `cmd:"" help:"Remove items."`
	Set mediaSetCmd `cmd:"" help:"Change what is said of an item."`
	Cp  mediaCpCmd  `cmd:"" help:"Copy an item, also to another account; no bytes move."`
	Mv  mediaMvCmd  `cmd:"" help:"Give an item another name."`

	Alias    mediaAliasCmd    `cmd:"" help:"Give an item a second name."`
	Join     mediaJoinCmd     `cmd:"" help:"Make an item of several sounds, pauses and tones."`
	Trim     mediaTrimCmd     `cmd:"" help:"Cut an item, or a recording into an item."`
	Silence  mediaSilenceCmd  `cmd:"" help:"Show where an item or a recording is silent."`
	Undelete mediaUndeleteCmd `cmd:"" help:"Bring a removed item back."`
	Lookup   mediaLookupCmd   `cmd:"" help:"Show where a media name is played."`
	Uses     mediaUsesCmd     `cmd:"" help:"Show what would miss an item: names, playlists, prompts, accounts."`
	Reclaim  mediaReclaimCmd  `cmd:"" help:"Show what was removed and still takes room."`

	Verify mediaVerifyCmd `cmd:"" help:"Let every node read and hash its copy of items."`

	Info mediaInfoCmd `cmd:"" help:"Show what is known of an item."`
}
