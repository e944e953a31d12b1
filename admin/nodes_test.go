package admin

import (
	"context"
	"fmt"
	"testing"

	"carillon/library"
)

// fakeNodes knows node "a", which may be drained and not removed.
type fakeNodes struct{}

func (fakeNodes) answer(id, state string) (any, error) {
	if id != "a" {
		return nil, fmt.Errorf("node %s: %w", id, library.ErrNotFound)
	}
	return map[string]string{"state": state}, nil
}

func (f fakeNodes) Drain(_ context.Context, id string) (any, error) { return f.answer(id, "draining") }

func (f fakeNodes) Undrain(_ context.Context, id string) (any, error) { return f.answer(id, "active") }

func (fakeNodes) Remove(context.Context, string) (any, error) {
	return nil, fmt.Errorf("still a member: %w", library.ErrState)
}

func (f fakeNodes) Progress(_ context.Context, id string) (any, error) { return f.answer(id, "active") }

// Nodes of the cluster are drained, removed and asked for.
func TestClusterNodes(t *testing.T) {
	newNode(t, newFake()).run(t, []scenario{
		{
			name: "drain", method: "POST", path: "/v1/cluster/nodes/a/drain", status: 202,
			contains: []string{"draining"},
		},
		{
			name: "undrain", method: "POST", path: "/v1/cluster/nodes/a/undrain", status: 202,
			contains: []string{"active"},
		},
		{name: "progress", method: "GET", path: "/v1/cluster/nodes/a", status: 200, contains: []string{"active"}},
		{name: "not there", method: "POST", path: "/v1/cluster/nodes/b/drain", status: 404, code: "not_found"},
		{name: "not safe", method: "DELETE", path: "/v1/cluster/nodes/a", status: 409, code: "wrong_state"},
	})
}
