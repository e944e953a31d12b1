package systemtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// document is the public form of an item, as far as the tests look at it.
type document struct {
	Account     string `json:"account"`
	ID          string `json:"id"`
	Revision    uint64 `json:"revision"`
	Size        int64  `json:"content_length"`
	SHA256      string `json:"sha256"`
	ContentType string `json:"content_type"`
	Audio       struct {
		Format     string `json:"format"`
		SampleRate int    `json:"sample_rate"`
		Channels   int    `json:"channels"`
		BitRate    int    `json:"bit_rate"`
	} `json:"audio"`
	DurationMS int64  `json:"duration_ms"`
	Source     string `json:"media_source"`
	Truncated  bool   `json:"truncated"`
}

// recording is the public form of a recording.
type recording struct {
	ID            string `json:"id"`
	Account       string `json:"account"`
	Name          string `json:"name"`
	State         string `json:"state"`
	Node          string `json:"node"`
	Size          int64  `json:"content_length"`
	SHA256        string `json:"sha256"`
	DurationMS    int64  `json:"duration_ms"`
	RecordURL     string `json:"record_url"`
	RecordURLHTTP string `json:"record_url_http"`
	EndedBy       string `json:"ended_by"`
	Title         string `json:"title"`
	Warning       string `json:"warning"`
	ExportID      string `json:"export_id"`
	PlayURLs      struct {
		HTTP     string `json:"http"`
		HTTPNow  string `json:"http_now"`
		Shout    string `json:"shout"`
		ShoutNow string `json:"shout_now"`
	} `json:"play_urls"`
}

// ticket makes a recording that waits for its source.
func (n *Node) ticket(account, name string) recording {
	n.cluster.tb.Helper()
	body := fmt.Sprintf(`{"account":%q,"name":%q}`, account, name)
	var rec recording
	n.call(http.MethodPost, "/v1/recordings", []byte(body), http.StatusCreated, &rec)
	if rec.RecordURL == "" || rec.State != "waiting" {
		n.cluster.tb.Fatalf("new recording %+v has no record_url, or is not waiting", rec)
	}
	return rec
}

// recording reads a recording.
func (n *Node) recording(id string) recording {
	n.cluster.tb.Helper()
	var rec recording
	n.call(http.MethodGet, "/v1/recordings/"+url.PathEscape(id), nil, http.StatusOK, &rec)
	return rec
}

// waitState waits until the recording is in that state, and returns it.
func (n *Node) waitState(id, state string) recording {
	n.cluster.tb.Helper()
	return n.waitStateWithin(settleWait, id, state)
}

func (n *Node) waitStateWithin(limit time.Duration, id, state string) recording {
	n.cluster.tb.Helper()
	var rec recording
	eventually(n.cluster.tb, limit, "recording "+id+" "+state, func() error {
		_, answer, err := n.do(n.cluster.tb.Context(), http.MethodGet, "/v1/recordings/"+id, nil)
		if err != nil {
			return err
		}
		rec = recording{}
		if err := json.Unmarshal(answer, &rec); err != nil {
			return fmt.Errorf("%w in %s", err, answer)
		}
		if rec.State != state {
			return fmt.Errorf("it is %q with %d bytes", rec.State, rec.Size)
		}
		return nil
	})
	return rec
}

// login is the Basic user and password of a record_url, and its mount.
func (r recording) login(tb interface{ Fatal(...any) }) (user, password, mount string) {
	u, err := url.Parse(r.RecordURL)
	if err != nil {
		tb.Fatal(err)
	}
	password, _ = u.User.Password()
	return u.User.Username(), password, u.Path
}

// store makes the recording an item.
func (n *Node) store(id, account, item string) document {
	n.cluster.tb.Helper()
	var doc document
	body := fmt.Sprintf(`{"account":%q,"id":%q}`, account, item)
	n.call(http.MethodPost, "/v1/recordings/"+id+"/store", []byte(body), http.StatusOK, &doc)
	return doc
}

// put stores an item.
func (n *Node) put(account, id string, body []byte) document {
	n.cluster.tb.Helper()
	var doc document
	n.call(http.MethodPut, "/media/"+account+"/"+id, body, http.StatusCreated, &doc)
	return doc
}

func documentPath(account, id string) string {
	return "/v1/accounts/" + account + "/media/" + url.PathEscape(id)
}

// status is the state of the cluster as one node sees it.
type status struct {
	Node  string `json:"node"`
	Nodes []struct {
		ID     string `json:"id"`
		HTTP   string `json:"http"`
		Alive  bool   `json:"alive"`
		Ready  bool   `json:"ready"`
		Groups []struct {
			Name   string `json:"name"`
			State  string `json:"state"`
			Leader string `json:"leader"`
			Last   uint64 `json:"last_index"`
		} `json:"groups"`
	} `json:"nodes"`
}

// Status asks the node for the state of the cluster.
func (n *Node) Status() status {
	n.cluster.tb.Helper()
	var s status
	n.call(http.MethodGet, "/v1/cluster", nil, http.StatusOK, &s)
	return s
}

// Entries adds up the log positions of all groups: how many entries were made
// so far, each of which is an fsync on every node unless some share one.
func (c *Cluster) Entries() uint64 {
	c.tb.Helper()
	last := map[string]uint64{}
	for _, node := range c.Live()[0].Status().Nodes {
		for _, g := range node.Groups {
			last[g.Name] = max(last[g.Name], g.Last)
		}
	}
	var sum uint64
	for _, index := range last {
		sum += index
	}
	return sum
}

// Leader is the node that leads the group, as seen from a live node.
func (c *Cluster) Leader(group string) *Node {
	c.tb.Helper()
	var leader *Node
	eventually(c.tb, failoverWait, "leader of "+group, func() error {
		s := c.Live()[0].Status()
		for _, member := range s.Nodes {
			for _, g := range member.Groups {
				if g.Name != group || g.State != "leader" || !member.Alive {
					continue
				}
				for _, n := range c.Live() {
					if n.HTTP == strings.TrimSuffix(member.HTTP, "/") {
						leader = n
						return nil
					}
				}
			}
		}
		return fmt.Errorf("nobody leads it in %+v", s)
	})
	return leader
}

// metric reads one value of the node's /metrics; series of one name add up.
func (n *Node) metric(ctx context.Context, name string) (float64, error) {
	_, page, err := n.do(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return 0, err
	}
	sum, found := 0.0, false
	lines := bufio.NewScanner(strings.NewReader(string(page)))
	for lines.Scan() {
		line := lines.Text()
		series, value, ok := strings.Cut(line, " ")
		if bare, _, _ := strings.Cut(series, "{"); !ok || bare != name {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("no metric %s", name)
	}
	return sum, nil
}

// Goroutines are those of all running nodes together.
func (c *Cluster) Goroutines() (int, error) {
	sum := 0
	for _, n := range c.Live() {
		v, err := n.metric(c.tb.Context(), "go_goroutines")
		if err != nil {
			return 0, err
		}
		sum += int(v)
	}
	return sum, nil
}

// noGrowth runs f and then waits until the nodes have as few goroutines as
// before, but for slack: pools and keep-alive connections come and go. If they
// stay, the nodes are ended with a dump and their goroutines listed.
func (c *Cluster) noGrowth(slack int, f func()) {
	c.tb.Helper()
	c.http.CloseIdleConnections()
	before, err := c.Goroutines()
	if err != nil {
		c.tb.Fatal(err)
	}
	f()
	c.http.CloseIdleConnections()
	err = waitUntil(c.tb.Context(), settleWait, func() error {
		now, err := c.Goroutines()
		if err == nil && now > before+slack {
			err = fmt.Errorf("%d goroutines, %d before", now, before)
		}
		return err
	})
	if err != nil {
		c.tb.Errorf("goroutines stay: %v\n%s", err, c.goroutineDump())
	}
}

// goroutineDump ends the nodes and counts their goroutines by what they do: the
// outermost function of ours, or who made them.
func (c *Cluster) goroutineDump() string {
	live := c.Live()
	for _, n := range live { // all at once: one that misses the others changes
		n.signal(syscall.SIGQUIT)
	}
	counts := map[string]int{}
	for _, n := range live {
		<-n.done
		log, err := os.ReadFile(n.logFile())
		if err != nil {
			return err.Error()
		}
		for _, stack := range strings.Split(string(log), "\n\ngoroutine ")[1:] {
			counts[roleOf(stack)]++
		}
	}
	var text strings.Builder
	most := func(a, b string) int { return counts[b] - counts[a] }
	for _, role := range slices.SortedFunc(maps.Keys(counts), most) {
		fmt.Fprintf(&text, "%5d %s\n", counts[role], role)
	}
	return text.String()
}

func roleOf(stack string) string {
	role := "unknown"
	for line := range strings.Lines(stack) {
		switch {
		case strings.HasPrefix(line, "created by "):
			if role == "unknown" {
				role, _, _ = strings.Cut(line, " in goroutine")
			}
			return role
		case strings.HasPrefix(line, "carillon/"), strings.HasPrefix(line, "github.com/hashicorp/raft."):
			role, _, _ = strings.Cut(strings.TrimSpace(line), "({")
			role, _, _ = strings.Cut(role, "(0x")
		}
	}
	return role
}
