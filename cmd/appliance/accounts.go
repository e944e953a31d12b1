package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"carillon/internal/config"
	"carillon/library"
)

// accountsCmd groups the commands on accounts.
type accountsCmd struct {
	Ls      accountsLsCmd      `cmd:"" help:"List the accounts that have media or settings."`
	Show    accountsShowCmd    `cmd:"" help:"Show an account's settings and what it stores."`
	Set     accountsSetCmd     `cmd:"" help:"Change an account's settings."`
	Reset   accountsResetCmd   `cmd:"" help:"Forget an account's settings; its media stay."`
	Preview accountsPreviewCmd `cmd:"" help:"Show what a retention would delete; nothing is deleted."`
}

// keepTime is how long something is kept: "93d", "12h", "0" for ever.
type keepTime int64 // seconds

const secondsPerDay = 24 * 3600

// UnmarshalText reads days or what a duration is else.
func (k *keepTime) UnmarshalText(text []byte) error {
	s := string(text)
	if days, found := strings.CutSuffix(s, "d"); found {
		n, err := strconv.ParseUint(days, 10, 31)
		if err != nil {
			return fmt.Errorf("%q is no time like 93d or 12h: %w", s, errUsage)
		}
		*k = keepTime(n * secondsPerDay)
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d%time.Second != 0 {
		return fmt.Errorf("%q is no time like 93d or 12h: %w", s, errUsage)
	}
	*k = keepTime(d / time.Second)
	return nil
}

// String is the time in whole days if it is that.
func (k keepTime) String() string {
	if k > 0 && k%secondsPerDay == 0 {
		return strconv.FormatInt(int64(k/secondsPerDay), 10) + "d"
	}
	return (time.Duration(k) * time.Second).String()
}

func retentionOf(given map[string]keepTime) map[library.Class]int64 {
	seconds := make(map[library.Class]int64, len(given))
	for class, k := range given {
		seconds[library.Class(class)] = int64(k)
	}
	return seconds
}

type accountsLsCmd struct{}

// Run lists the accounts.
func (c *accountsLsCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	all, err := allPages(func(after string) ([]library.AccountSettings, string, error) {
		return api.Accounts(ctx, after, library.PageLimitMax)
	})
	if err != nil {
		return fmt.Errorf("accounts: %w", err)
	}
	if g.JSON {
		return printJSON(tty.out, map[string]any{"items": all})
	}
	for _, s := range all {
		if err := printf(tty.out, "%s\n", s.Account); err != nil {
			return err
		}
	}
	return nil
}

type accountsShowCmd struct {
	Account string `arg:"" help:"Account."`
}

// Run shows settings and usage.
func (c *accountsShowCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	s, err := api.Account(ctx, c.Account)
	if err != nil {
		return fmt.Errorf("account %s: %w", c.Account, err)
	}
	u, err := api.Usage(ctx, c.Account)
	if err != nil {
		return fmt.Errorf("usage of %s: %w", c.Account, err)
	}
	if g.JSON {
		return printJSON(tty.out, map[string]any{"settings": s, "usage": u})
	}
	return printAccount(tty.out, &s, &u)
}

// printAccount prints settings, and usage unless it is nil.
func printAccount(w io.Writer, s *library.AccountSettings, u *library.AccountUsage) error {
	rows := [][2]string{
		{"account", s.Account},
		{"name", s.Name},
		{"parent", s.Parent},
		{"language", s.Language},
		{"fallback sound", s.Fallback},
	}
	if s.GainDB != 0 {
		rows = append(rows, [2]string{"gain", fmt.Sprintf("%+g dB", s.GainDB)})
	}
	for _, class := range slices.Sorted(maps.Keys(s.RetentionSeconds)) {
		rows = append(rows, [2]string{"keep " + string(class), keepTime(s.RetentionSeconds[class]).String()})
	}
	if s.Quota.Items > 0 {
		rows = append(rows, [2]string{"quota items", strconv.FormatInt(s.Quota.Items, 10)})
	}
	if s.Quota.Bytes > 0 {
		rows = append(rows, [2]string{"quota bytes", sizeText(s.Quota.Bytes)})
	}
	rows = append(rows, [][2]string{
		{"listeners", s.ListenerAuth.Mode}, {"listener user", s.ListenerAuth.User}, {"export", s.Export.URL},
	}...)
	if u != nil {
		rows = append(rows,
			[2]string{"stored", fmt.Sprintf("%d items, %s", u.Items, sizeText(u.Bytes))},
			[2]string{"deleted", fmt.Sprintf("%d items, %s", u.Deleted.Items, sizeText(u.Deleted.Bytes))})
	}
	return printFields(w, rows)
}

type accountsSetCmd struct {
	Account       string              `arg:"" help:"Account."`
	Name          *string             `help:"Name for people."`
	Parent        *string             `help:"Account whose prompts are heard where this one has none."`
	Language      *string             `help:"Language of prompts, like en-us."`
	FallbackSound *string             `help:"Media name that is played instead of what is not found."`
	GainDB        *float64            `name:"gain-db" help:"Default gain of playback, -24 to 24: --gain-db=-3."`
	Keep          map[string]keepTime `help:"How long a class (upload, voicemail, recording) is kept: voicemail=93d; 0 for ever." placeholder:"CLASS=TIME"` //nolint:lll // a tag is one line
	QuotaBytes    *config.ByteSize    `help:"What it may store, like 10GiB; 0B for no limit."`
	QuotaItems    *int64              `help:"How many items it may have; 0 for no limit."`
	ListenerAuth  *string             `help:"Who may listen: \"\" for the networks of streams.allow, token for signed URLs only, basic for a password."` //nolint:lll // a tag is one line
	ListenerUser  *string             `help:"User for --listener-auth basic; its password comes by standard input."`                                     //nolint:lll // a tag is one line
	ExportURL     *string             `name:"export-url" help:"URL below which recordings are sent, too."`
}

// Run changes what is given and leaves the rest.
func (c *accountsSetCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	fields, err := c.fields(tty.in)
	if err != nil {
		return err
	}
	api, err := g.client()
	if err != nil {
		return err
	}
	s, err := api.PatchAccount(ctx, c.Account, fields)
	if err != nil {
		return fmt.Errorf("account %s: %w", c.Account, err)
	}
	if g.JSON {
		return printJSON(tty.out, s)
	}
	return printAccount(tty.out, &s, nil)
}

// fields are the JSON names of what is given.
func (c *accountsSetCmd) fields(in io.Reader) (map[string]any, error) {
	fields, quota, auth := map[string]any{}, map[string]any{}, map[string]any{}
	set := func(to map[string]any, name string, value *string) {
		if value != nil {
			to[name] = *value
		}
	}
	set(fields, "name", c.Name)
	set(fields, "parent", c.Parent)
	set(fields, "language", c.Language)
	set(fields, "fallback_sound", c.FallbackSound)
	set(auth, "mode", c.ListenerAuth)
	if c.GainDB != nil {
		fields["gain_db"] = *c.GainDB
	}
	if len(c.Keep) > 0 {
		fields["retention_seconds"] = retentionOf(c.Keep)
	}
	if c.QuotaBytes != nil {
		quota["bytes"] = c.QuotaBytes.Int64()
	}
	if c.QuotaItems != nil {
		quota["items"] = *c.QuotaItems
	}
	if c.ListenerUser != nil {
		// Not a flag: whoever may list processes would see it.
		line, err := bufio.NewReader(io.LimitReader(in, library.TextBytesMax+1)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read the password: %w", err)
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return nil, fmt.Errorf("no password on standard input: %w", errUsage)
		}
		auth["user"], auth["password"] = *c.ListenerUser, line
	}
	if c.ExportURL != nil {
		fields["export"] = map[string]any{"url": *c.ExportURL}
	}
	if len(quota) > 0 {
		fields["quota"] = quota
	}
	if len(auth) > 0 {
		fields["listener_auth"] = auth
	}
	if len(fields) == 0 {
		return nil, fmt.Errorf("nothing to set: %w", errUsage)
	}
	return fields, nil
}

type accountsResetCmd struct {
	Account string `arg:"" help:"Account."`
}

// Run forgets settings.
func (c *accountsResetCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	if err := api.DeleteAccount(ctx, c.Account); err != nil {
		return fmt.Errorf("account %s: %w", c.Account, err)
	}
	if g.JSON {
		return printJSON(tty.out, map[string]string{"reset": c.Account})
	}
	return printf(tty.out, "settings of %s are the defaults\n", c.Account)
}

type accountsPreviewCmd struct {
	Account string              `arg:"" help:"Account."`
	Keep    map[string]keepTime `help:"Retention to try instead of the account's: voicemail=93d." placeholder:"CLASS=TIME"` //nolint:lll // a tag is one line
	In      keepTime            `help:"Look so far ahead: 30d."`
	Limit   int                 `default:"20" help:"Items to name; all are counted."`
}

// Run shows what would be deleted.
func (c *accountsPreviewCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	q := library.ExpiryQuery{Limit: c.Limit}
	if len(c.Keep) > 0 {
		q.RetentionSeconds = retentionOf(c.Keep)
	}
	if c.In > 0 {
		q.At = time.Now().Add(time.Duration(c.In) * time.Second)
	}
	x, err := api.Expiring(ctx, c.Account, q)
	if err != nil {
		return fmt.Errorf("preview of %s: %w", c.Account, err)
	}
	if g.JSON {
		return printJSON(tty.out, x)
	}
	if err := printf(tty.out, "would delete %d items, %s\n", x.Items, sizeText(x.Bytes)); err != nil {
		return err
	}
	for _, class := range slices.Sorted(maps.Keys(x.Classes)) {
		u := x.Classes[class]
		if err := printf(tty.out, "  %s: %d items, %s\n", class, u.Items, sizeText(u.Bytes)); err != nil {
			return err
		}
	}
	for _, d := range x.Sample {
		if err := printf(tty.out, "%s\n", describe(d)); err != nil {
			return err
		}
	}
	return nil
}
