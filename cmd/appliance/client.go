package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"carillon/admin/client"
	"carillon/internal/config"
	"carillon/library"
)

// client opens the API of the node that the flags name.
func (g *globals) client() (*client.Client, error) {
	server := g.Server
	if server == "" {
		server = localServer(config.Default().HTTP.Bind)
	}
	c, err := client.New(server, g.Token)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return c, nil
}

// localServer is how a node that binds to addr is reached on its own machine.
func localServer(addr config.Addr) string {
	host := addr.Host()
	if addr.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(int(addr.Port())))
}

// item is the argument ACCOUNT/ID.
type item struct{ account, id string }

// UnmarshalText reads ACCOUNT/ID; the id may hold further slashes.
func (i *item) UnmarshalText(text []byte) error {
	account, id, ok := strings.Cut(string(text), "/")
	if !ok || account == "" || id == "" {
		return fmt.Errorf("%q is not ACCOUNT/ID: %w", text, errUsage)
	}
	i.account, i.id = account, id
	return nil
}

// String is ACCOUNT/ID.
func (i item) String() string { return i.account + "/" + i.id }

// printJSON writes v as the command's only output, indented for the people
// who look at it after all.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	return nil
}

// printFields writes names and values in two columns, without the empty values.
func printFields(w io.Writer, rows ...[][2]string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) // its errors show at Flush
	for _, row := range slices.Concat(rows...) {
		if row[1] != "" {
			_, _ = fmt.Fprintf(table, "%s\t%s\n", row[0], row[1])
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// allPages asks for one page of a list after the other. Ask is given the key
// after which the page begins and returns that of the next one, "" at the end.
func allPages[T any](ask func(after string) (page []T, next string, err error)) ([]T, error) {
	all := []T{}
	for after := ""; ; {
		page, next, err := ask(after)
		if err != nil {
			return nil, err
		}
		if all = append(all, page...); next == "" {
			return all, nil
		}
		after = next
	}
}

// printf writes text for people.
func printf(w io.Writer, format string, args ...any) error {
	if _, err := fmt.Fprintf(w, format, args...); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// failed says which operation on what an error is of, unless the server has
// said so already.
func failed(operation string, of fmt.Stringer, err error) error {
	prefix := operation + " " + of.String()
	if strings.HasPrefix(err.Error(), prefix) {
		return err
	}
	return fmt.Errorf("%s: %w", prefix, err)
}

// describe is one line about a document.
func describe(doc library.Document) string {
	return fmt.Sprintf("%s/%s  %s  %s  %s", doc.Account, doc.ID, sizeText(doc.Size), lengthText(doc.DurationMS),
		doc.ContentType)
}

// sizeText is a number of bytes with three digits, or four: "1.21 MiB".
func sizeText(n int64) string {
	const step = 1024
	if n < step {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, unit := float64(n), 0
	for unit == 0 || value >= step-0.5 && unit < len("KMGTPE") {
		value /= step
		unit++
	}
	if value >= 999.5 { // %g would write 1.02e+03
		return fmt.Sprintf("%.0f %ciB", value, "KMGTPE"[unit-1])
	}
	return fmt.Sprintf("%.3g %ciB", value, "KMGTPE"[unit-1])
}

// lengthText is a playing time: "2.40 s", "1:02:03".
func lengthText(ms int64) string {
	switch seconds := ms / 1000; {
	case seconds < 60:
		return fmt.Sprintf("%.2f s", float64(ms)/1000)
	case seconds < 3600:
		return fmt.Sprintf("%d:%02d", seconds/60, seconds%60)
	default:
		return fmt.Sprintf("%d:%02d:%02d", seconds/3600, seconds/60%60, seconds%60)
	}
}
