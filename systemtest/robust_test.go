package systemtest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	// envRobustness is how many faults TestRobustness goes through; the short
	// form has one of each kind.
	envRobustness = "CARILLON_ROBUSTNESS"
	// envRobustnessSeed repeats a plan of faults. The timing is not repeated.
	envRobustnessSeed = "CARILLON_ROBUSTNESS_SEED"
	// robustClients work on each node.
	robustClients = 2
	// robustKeys are in use at a time; each fault has new ones, so that the
	// operations nobody knows the outcome of do not pile up.
	robustKeys = 4
	// robustWait is a client's patience.
	robustWait = 4 * time.Second
	// robustRest is a client's pause.
	robustRest = 15 * time.Millisecond
	// faultLasts and healLasts: longer than an election takes, and than a
	// client waits for a half that is cut off.
	faultLasts = 2500 * time.Millisecond
	healLasts  = 1500 * time.Millisecond
	// checkWait bounds the search for a linearization of one history.
	checkWait = time.Minute
)

// opKind is what a client does with an item.
type opKind int

const (
	opPut opKind = iota
	opDelete
	opRead   // linearizable, or fresh with the answer that there is none
	opAbsent // a delete that found nothing
)

// regInput and regOutput are an operation on one register, as Porcupine sees it.
// A value is a SHA-256; "" is no item.
type regInput struct {
	kind  opKind
	key   string
	value string // of a put
	node  int
}

type regOutput struct {
	value   string // of a read
	unknown bool   // it may have happened, may yet, or never
}

// register is the model of one item: put, replace, delete, read.
func register() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			byKey := map[string][]porcupine.Operation{}
			for _, op := range history {
				key := op.Input.(regInput).key
				byKey[key] = append(byKey[key], op)
			}
			var parts [][]porcupine.Operation
			for _, part := range byKey {
				parts = append(parts, part)
			}
			return parts
		},
		Init: func() any { return "" },
		Step: func(state, input, output any) (bool, any) {
			in, out := input.(regInput), output.(regOutput)
			switch in.kind {
			case opPut:
				return true, in.value
			case opDelete:
				return out.unknown || state != "", ""
			case opAbsent:
				return state == "", state
			default:
				return state == out.value, state
			}
		},
		DescribeOperation: func(input, output any) string {
			in, out := input.(regInput), output.(regOutput)
			name := [...]string{"put", "delete", "read", "delete of nothing"}[in.kind]
			return fmt.Sprintf("%s %s %.6s%.6s by node %d, unknown %v", name, in.key, in.value, out.value, in.node+1,
				out.unknown)
		},
	}
}

// history is what the clients did.
type history struct {
	begun time.Time

	mu      sync.Mutex
	ops     []porcupine.Operation        // guarded by mu
	written map[string]bool              // guarded by mu: values that a put was begun with
	seen    map[int]map[string]sightings // guarded by mu: by node, by key
	faults  []string                     // guarded by mu: what must never be
	counts  map[string]int               // guarded by mu: answers, for the log
}

// sightings is the newest revision that a life of a node has shown of a key.
type sightings struct {
	life     int
	revision uint64
}

func newHistory() *history {
	return &history{
		begun: time.Now(), written: map[string]bool{}, seen: map[int]map[string]sightings{},
		counts: map[string]int{},
	}
}

func (h *history) now() int64 { return int64(time.Since(h.begun)) }

func (h *history) add(client int, call int64, in regInput, out regOutput) {
	end := h.now()
	if out.unknown {
		end = int64(1) << 62
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: end})
}

func (h *history) count(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[what]++
}

// value checks that a node showed something that was written, and never
// something older than it showed before, within one life.
func (h *history) value(node, life int, key, value string, revision uint64, what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.written[value] {
		h.faults = append(h.faults, fmt.Sprintf("node %d shows %s as %.12s, which nobody wrote",
			node+1, key, value))
	}
	if revision == 0 {
		return
	}
	if h.seen[node] == nil {
		h.seen[node] = map[string]sightings{}
	}
	last := h.seen[node][key]
	if last.life == life && revision < last.revision {
		h.faults = append(h.faults, fmt.Sprintf("node %d shows %s at revision %d after %d (%s)",
			node+1, key, revision, last.revision, what))
	}
	h.seen[node][key] = sightings{life, max(revision, last.revision)}
}

// robust is the test's clients and their cluster.
type robust struct {
	c     *Cluster
	h     *history
	phase struct {
		sync.Mutex
		n     int
		lives []int
	}
}

func (r *robust) key(rnd *rand.Rand) string {
	r.phase.Lock()
	defer r.phase.Unlock()
	return fmt.Sprintf("%d-%d.wav", r.phase.n, rnd.IntN(robustKeys))
}

func (r *robust) life(node int) int {
	r.phase.Lock()
	defer r.phase.Unlock()
	return r.phase.lives[node]
}

// client does one thing after another on its node.
func (r *robust) client(ctx context.Context, id, node int, rnd *rand.Rand) {
	for turn := 0; ctx.Err() == nil; turn++ {
		key := r.key(rnd)
		switch n := rnd.IntN(10); {
		case n < 3:
			r.put(ctx, id, node, key, noise(2_000+rnd.IntN(20_000)&^1, uint64(id)<<32|uint64(turn)))
		case n < 4:
			r.delete(ctx, id, node, key)
		case n < 7:
			r.read(ctx, id, node, key, "linearizable")
		case n < 8:
			r.read(ctx, id, node, key, "fresh")
		case n < 9:
			r.read(ctx, id, node, key, "local")
		default:
			r.play(ctx, node, key)
		}
		pause(ctx, robustRest)
	}
}

// neverSent is the code of a request that nobody can have heard: there was no
// connection.
const neverSent = -1

func (r *robust) do(ctx context.Context, node int, method, path string, body []byte) (int, []byte, bool) {
	ctx, cancel := context.WithTimeout(ctx, robustWait)
	defer cancel()
	resp, answer, err := r.c.nodes[node].do(ctx, method, path, body)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		r.h.count(method + " refused")
		return neverSent, nil, false
	case err != nil:
		r.h.count(method + " failed")
		return 0, nil, false
	}
	r.h.count(fmt.Sprintf("%s %d", method, resp.StatusCode))
	return resp.StatusCode, answer, true
}

func (r *robust) put(ctx context.Context, id, node int, key string, body []byte) {
	value := hashOf(body)
	r.h.mu.Lock()
	r.h.written[value] = true
	r.h.mu.Unlock()
	call := r.h.now()
	code, _, ok := r.do(ctx, node, http.MethodPut, "/media/robust/"+key, body)
	if code == neverSent {
		return // the search for a linearization grows with what may have happened
	}
	acked := ok && (code == http.StatusOK || code == http.StatusCreated)
	r.h.add(id, call, regInput{opPut, key, value, node}, regOutput{unknown: !acked})
}

func (r *robust) delete(ctx context.Context, id, node int, key string) {
	call := r.h.now()
	code, _, ok := r.do(ctx, node, http.MethodDelete, "/media/robust/"+key, nil)
	in, out := regInput{opDelete, key, "", node}, regOutput{}
	switch {
	case code == neverSent:
		return
	case ok && code == http.StatusNoContent:
	case ok && code == http.StatusNotFound:
		in.kind = opAbsent
	default:
		out.unknown = true
	}
	r.h.add(id, call, in, out)
}

// read looks an item up. What a local or fresh lookup finds may be old, so it is
// not part of the history; that a fresh one finds nothing is.
func (r *robust) read(ctx context.Context, id, node int, key, consistency string) {
	call, life := r.h.now(), r.life(node)
	code, answer, ok := r.do(ctx, node, http.MethodGet,
		documentPath("robust", key)+"?consistency="+consistency, nil)
	var doc document
	switch {
	case !ok:
		return
	case code == http.StatusNotFound && consistency != "local":
	case code == http.StatusOK && json.Unmarshal(answer, &doc) == nil:
		if consistency != "linearizable" {
			r.h.value(node, life, key, doc.SHA256, doc.Revision, consistency)
			return
		}
		r.h.value(node, life, key, doc.SHA256, 0, consistency)
	default:
		return
	}
	r.h.add(id, call, regInput{opRead, key, "", node}, regOutput{value: doc.SHA256})
}

// play fetches the bytes, which must be those of some put, whatever happens.
func (r *robust) play(ctx context.Context, node int, key string) {
	code, body, ok := r.do(ctx, node, http.MethodGet, "/media/robust/"+key, nil)
	if ok && code == http.StatusOK {
		r.h.value(node, 0, key, hashOf(body), 0, "play")
	}
}

// robustFault is one kind of fault: it begins, and what it returns ends it.
type robustFault struct {
	name  string
	begin func(r *robust, lab *netlab, rnd *rand.Rand) (end func())
}

func robustFaults() []robustFault {
	network := func(name string, set func(lab *netlab, a, b int)) robustFault {
		return robustFault{name, func(_ *robust, lab *netlab, rnd *rand.Rand) func() {
			a := rnd.IntN(len(lab.tun))
			set(lab, a, (a+1)%len(lab.tun))
			return func() { lab.all(linkFault{}) }
		}}
	}
	return []robustFault{
		network("one node cut off", func(lab *netlab, a, _ int) { lab.isolate(a) }),
		{"kill -9", func(r *robust, _ *netlab, rnd *rand.Rand) func() {
			return r.kill(rnd.IntN(len(r.c.nodes)))
		}},
		network("bridge: two nodes see only the third", func(lab *netlab, a, b int) {
			lab.both(a, b, linkFault{cut: true})
		}),
		{"the catalog's leader stopped", func(r *robust, _ *netlab, _ *rand.Rand) func() {
			n := r.c.Leader("catalog")
			n.Pause()
			return n.Resume
		}},
		network("one node hears nothing", func(lab *netlab, a, _ int) {
			for j := range lab.tun {
				lab.set(j, a, linkFault{cut: true})
			}
		}),
		network("20 % loss everywhere", func(lab *netlab, _, _ int) { lab.all(linkFault{loss: 0.2}) }),
		network("200 ms to and from one node", func(lab *netlab, a, _ int) {
			for j := range lab.tun {
				lab.both(a, j, linkFault{delay: 200 * time.Millisecond})
			}
		}),
		network("everybody alone", func(lab *netlab, _, _ int) { lab.all(linkFault{cut: true}) }),
	}
}

// kill ends a node and counts its life.
func (r *robust) kill(i int) func() {
	r.c.nodes[i].Kill9()
	return func() {
		r.phase.Lock()
		r.phase.lives[i]++
		r.phase.Unlock()
		r.c.nodes[i].Restart()
	}
}

// TestRobustness lets clients put, replace, delete and look up items on all
// nodes while nodes are killed, stopped, and cut off from one another, and
// checks with Porcupine that what they saw is what one copy would have shown.
func TestRobustness(t *testing.T) {
	t.Parallel()
	lab := newLab(t, 3)
	c := StartInLab(t, lab, nil)
	faults, seed := robustFaults(), uint64(time.Now().UnixNano())
	count := len(faults)
	if text := os.Getenv(envRobustness); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	if text := os.Getenv(envRobustnessSeed); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", envRobustnessSeed, seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	r := &robust{c: c, h: newHistory()}
	r.phase.lives = make([]int, len(c.nodes))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for i := range robustClients * len(c.nodes) {
		clientRand := rand.New(rand.NewPCG(seed, uint64(i)+1))
		wg.Go(func() { r.client(ctx, i, i%len(c.nodes), clientRand) })
	}
	for i := range count {
		f := faults[i%len(faults)]
		if i >= len(faults) {
			f = faults[rnd.IntN(len(faults))]
		}
		r.phase.Lock()
		r.phase.n++
		r.phase.Unlock()
		pause(ctx, healLasts/3) // so that there is something
		t.Logf("%6.2fs %s", time.Since(r.h.begun).Seconds(), f.name)
		end := f.begin(r, lab, rnd)
		pause(ctx, faultLasts)
		end()
		pause(ctx, healLasts)
	}
	stop()
	wg.Wait()
	c.WaitReady()
	r.finish(t, count)
}

// finish reads every key from every node, and checks everything.
func (r *robust) finish(t *testing.T, phases int) {
	t.Helper()
	for p := 1; p <= phases; p++ {
		for k := range robustKeys {
			key := fmt.Sprintf("%d-%d.wav", p, k)
			for i := range r.c.nodes {
				r.read(t.Context(), 1000+i, i, key, "linearizable")
				r.play(t.Context(), i, key)
			}
		}
	}
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	for i, f := range r.h.faults {
		if i < 10 {
			t.Error(f)
		}
	}
	acked := 0
	for _, op := range r.h.ops {
		if !op.Output.(regOutput).unknown {
			acked++
		}
	}
	t.Logf("%d operations with an answer, %d without; %v", acked, len(r.h.ops)-acked, r.h.counts)
	if acked < 10*phases {
		t.Errorf("only %d operations were answered", acked)
	}
	result, info := porcupine.CheckOperationsVerbose(register(), r.h.ops, checkWait)
	if result == porcupine.Ok {
		return
	}
	file := filepath.Join(t.ArtifactDir(), "history.html")
	if err := porcupine.VisualizePath(register(), info, file); err != nil {
		t.Error(err)
	}
	t.Errorf("history is %s: see %s (kept with -artifacts)", result, file)
	tellIllegal(t, r.h.ops)
}

// tellIllegal prints the histories that have no linearization, in the order in
// which the operations began.
func tellIllegal(t *testing.T, ops []porcupine.Operation) {
	t.Helper()
	model := register()
	for _, part := range model.Partition(ops) {
		result := porcupine.CheckOperationsTimeout(model, part, checkWait)
		if result == porcupine.Ok {
			continue
		}
		t.Logf("%s, %d operations:", result, len(part))
		slices.SortFunc(part, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
		for _, op := range part {
			t.Logf("%9.3fs to %9.3fs %s", time.Duration(op.Call).Seconds(),
				time.Duration(min(op.Return, op.Call+int64(time.Hour))).Seconds(),
				model.DescribeOperation(op.Input, op.Output))
		}
	}
}

// TestRegister holds the checker itself to what it must find and must allow.
func TestRegister(t *testing.T) {
	t.Parallel()
	op := func(client int, kind opKind, value string, call, end int64, unknown bool) porcupine.Operation {
		in, out := regInput{kind: kind, key: "k"}, regOutput{unknown: unknown}
		if kind == opPut {
			in.value = value
		} else {
			out.value = value
		}
		return porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call, Return: end}
	}
	const never = int64(1) << 62
	for _, test := range []struct {
		name string
		want porcupine.CheckResult
		ops  []porcupine.Operation
	}{
		{"read of the last put", porcupine.Ok, []porcupine.Operation{
			op(0, opPut, "a", 1, 2, false), op(0, opPut, "b", 3, 4, false), op(1, opRead, "b", 5, 6, false),
		}},
		{"stale read", porcupine.Illegal, []porcupine.Operation{
			op(0, opPut, "a", 1, 2, false), op(0, opPut, "b", 3, 4, false), op(1, opRead, "a", 5, 6, false),
		}},
		{"acknowledged put lost", porcupine.Illegal, []porcupine.Operation{
			op(0, opPut, "a", 1, 2, false), op(1, opRead, "", 3, 4, false),
		}},
		{"unknown put seen late", porcupine.Ok, []porcupine.Operation{
			op(0, opPut, "a", 1, never, true), op(1, opRead, "", 3, 4, false), op(1, opRead, "a", 5, 6, false),
		}},
		{"unknown put seen and gone", porcupine.Illegal, []porcupine.Operation{
			op(0, opPut, "a", 1, never, true), op(1, opRead, "a", 3, 4, false), op(1, opRead, "", 5, 6, false),
		}},
		{"deleted item back", porcupine.Illegal, []porcupine.Operation{
			op(0, opPut, "a", 1, 2, false), op(0, opDelete, "", 3, 4, false), op(1, opRead, "a", 5, 6, false),
		}},
	} {
		if got := porcupine.CheckOperationsTimeout(register(), test.ops, checkWait); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}
