package library

import (
	"context"
	"strings"

	"carillon/audio"
	"carillon/library/naming"
)

// urlBytesMax is below the 1,024 bytes that mod_http_cache and the dialplan
// keep for a file name.
const urlBytesMax = 999

// Player is a module of FreeSWITCH that a file string can be made for.
type Player string

// The players.
const (
	// PlayerShout is mod_shout, which takes everything for MP3.
	PlayerShout Player = "shout"
	// PlayerShellStream is mod_shell_stream, which runs Config.ShellStream.
	PlayerShellStream Player = "shell_stream"
	// PlayerHTTPCache is mod_http_cache; the default.
	PlayerHTTPCache Player = "http_cache"
	// PlayerHTTAPI is mod_httapi, which takes a plain URL, as do
	PlayerHTTAPI Player = "httapi"
	// PlayerPlain and other programs.
	PlayerPlain Player = "plain"
)

// itemAnswer leads to an item. Every string ends in the extension that tells
// its type, has neither '@' nor '?', and pins the sound (freeswitch-wire.md 3
// to 6).
func (l *Library) itemAnswer(ctx context.Context, d *Document, r *LookupRequest) (Lookup, error) {
	answer := Lookup{
		Type: d.ContentType, Account: d.Account, ID: d.ID, Revision: d.Revision, Language: d.Language,
		SHA256: d.SHA256, DurationMS: d.DurationMS, Player: r.Player,
	}
	// mod_shout decodes whatever it is sent as MP3: a WAV would be noise
	// (freeswitch-wire.md 1). So only MP3 is offered there, and what cannot be
	// made so by HTTP, which is playable, whatever was asked for.
	if r.Player == "" && r.Protocol == "shout" && d.Audio.Format == audio.FormatMP3 {
		answer.Player = PlayerShout
		answer.StreamURL = l.shoutURL(d.Account, withExt(d.ID, audio.FormatMP3))
		answer.FreeSWITCH = answer.StreamURL
		return answer, nil
	}
	token, err := l.playToken(ctx, d)
	if err != nil {
		return Lookup{}, err
	}
	answer.StreamURL = l.playURL(token, d, "")
	switch r.Player {
	case PlayerShout:
		if ext, ok := formExt(d, audio.ContainerMP3, ".mp3"); ok {
			answer.StreamURL = l.playURL(token, d, ext)
			answer.Type = audio.FormatMP3.ContentType()
			// Any port that speaks HTTP will do; that of HTTP knows the token.
			answer.FreeSWITCH = "shout" + strings.TrimPrefix(answer.StreamURL, "http")
			return answer, nil
		}
	case PlayerShellStream:
		if ext, ok := formExt(d, audio.ContainerRaw, ".raw"); ok {
			answer.StreamURL = l.playURL(token, d, ext)
			answer.FreeSWITCH = "shell_stream://" + l.cfg.ShellStream + " " + answer.StreamURL
			raw := audio.Form{
				Container: audio.ContainerRaw, SampleRate: formRateDefault, Channels: formChannelsDefault,
			}
			answer.Type = raw.ContentType()
			return answer, nil
		}
	case PlayerHTTAPI, PlayerPlain:
		answer.FreeSWITCH = answer.StreamURL
		return answer, nil
	case PlayerHTTPCache:
	}
	// Always with its prefix: a plain http:// goes to whichever of mod_httapi
	// and mod_http_cache was loaded last (freeswitch-wire.md 3), http_cache://
	// to one of them only, which fetches once and then plays from disk. It
	// fetches whole files, hence only finite items.
	answer.Player = PlayerHTTPCache
	answer.FreeSWITCH = "http_cache://" + answer.StreamURL
	return answer, nil
}

// formExt is what an item's URL needs at its end for a container, "" if it is
// one; not ok if the item cannot be converted.
func formExt(d *Document, container audio.Container, ext string) (string, bool) {
	if string(container) == string(d.Audio.Format) {
		return "", true
	}
	_, err := audio.Form{Container: container}.Of(d.Audio)
	return ext, err == nil
}

// recordingAnswer leads to a recording that is live, or ended and not stored.
// FreeSWITCH gets it by mod_shout alone, whatever was asked for: http_cache
// waits for the end of what it fetches, and would play the first recording of a
// name for ever after; shell_stream waits, too.
func (l *Library) recordingAnswer(rec *Recording, r *LookupRequest) Lookup {
	answer := Lookup{
		Type: rec.ContentType, Account: rec.Account, ID: rec.Name, Revision: rec.Revision,
		SHA256: rec.SHA256, DurationMS: rec.DurationMS, RecordingID: rec.ID,
		FreeSWITCH: l.shoutURL(rec.Account, rec.Name), Player: PlayerShout,
	}
	answer.StreamURL = answer.FreeSWITCH
	if r.Protocol != "shout" && r.Player != PlayerShout {
		answer.StreamURL = l.cfg.HTTPURL + "/media/" + escapePath(rec.Account+"/"+rec.Name)
	}
	return answer
}

// playURL ends in an extension that tells the type, because FreeSWITCH judges
// by it (freeswitch-wire.md 4). What stands between token and extension is for
// people; it gives way when the URL grows too long.
func (l *Library) playURL(token string, d *Document, ext string) string {
	base := l.cfg.HTTPURL + "/play/" + token + "/"
	id := d.ID + ext
	if ext == "" {
		id, ext = withExt(d.ID, d.Audio.Format), d.Audio.Format.Ext()
	}
	if escaped := escapePath(id); len(base)+len(escaped) <= urlBytesMax {
		return base + escaped
	}
	return base + "audio" + ext
}

func (l *Library) shoutURL(account, id string) string {
	return "shout://" + l.cfg.ShoutHost + "/" + escapePath(account+"/"+id)
}

// escapePath escapes all that RFC 3986 does not call unreserved, slashes apart:
// FreeSWITCH itself gives a meaning to '@', '!', ',', '|', '{', '[', '$' and
// quotes in file names.
func escapePath(path string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if naming.IsAlnum(c) || strings.IndexByte("-._~/", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	return b.String()
}
