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

func (fakeNodes) GroupRecovery(_ context.Context, group, node string) (any, error) {
	if group != "blob-1" {
		return nil, fmt.Errorf("blob group %s: %w", group, library.ErrNotFound)
	}
	return map[string]string{"group": group, "node": node}, nil
}

func (f fakeNodes) RecoverGroup(ctx context.Context, group, node string, lost []string) (any, error) {
	if len(lost) == 0 {
		return nil, fmt.Errorf("may hold what no other node has: %w", library.ErrState)
	}
	return f.GroupRecovery(ctx, group, node)
}

// A group is asked about, and recovered when every lost node is named.
func TestGroupRecovery(t *testing.T) {
	const path = "/v1/cluster/groups/blob-1/recovery"
	newNode(t, newFake()).run(t, []scenario{
		{name: "facts", method: "GET", path: path + "?node=a", status: 200, contains: []string{`"node":"a"`}},
		{
			name: "no such group", method: "GET", path: "/v1/cluster/groups/blob-9/recovery", status: 404,
			code: "not_found",
		},
		{name: "not named", method: "POST", path: path, body: `{"node":"a"}`, status: 409, code: "wrong_state"},
		{
			name: "misspelt", method: "POST", path: path, body: `{"node":"a","losst":["b"]}`, status: 400,
			code: "bad_request",
		},
		{
			name: "recovered", method: "POST", path: path, body: `{"node":"a","lost":["b"]}`, status: 202,
			contains: []string{"blob-1"},
		},
	})
}

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
