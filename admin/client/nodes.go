package client

import (
	"context"
	"net/http"
	"net/url"
)

// NodeProgress is how far a node of the cluster is on its way in or out.
type NodeProgress struct {
	ID     string `json:"id"`
	State  string `json:"state"`  // active, draining, removed
	Groups int    `json:"groups"` // that have the node as a member
	Wanted int    `json:"wanted"` // that are to have it
	Moving int    `json:"moving"` // groups anywhere that are not where they are to be yet
}

// NodeProgress asks how far a node is. library.ErrNotFound: there is none.
func (c *Client) NodeProgress(ctx context.Context, id string) (NodeProgress, error) {
	return c.node(ctx, http.MethodGet, id, "")
}

// DrainNode lets the other nodes take over what a node holds. library.ErrState:
// too few would be left.
func (c *Client) DrainNode(ctx context.Context, id string) (NodeProgress, error) {
	return c.node(ctx, http.MethodPost, id, "/drain")
}

// UndrainNode takes DrainNode back.
func (c *Client) UndrainNode(ctx context.Context, id string) (NodeProgress, error) {
	return c.node(ctx, http.MethodPost, id, "/undrain")
}

// RemoveNode takes a node out of the cluster for ever. library.ErrState: it
// still holds something, or a group would lose its majority.
func (c *Client) RemoveNode(ctx context.Context, id string) (NodeProgress, error) {
	return c.node(ctx, http.MethodDelete, id, "")
}

// GroupRecovery asks what is known of a blob group that may have lost its
// majority, with node as the one to go on with ("": the best); the answer is
// decoded into out. library.ErrNotFound: there is no such group or node.
func (c *Client) GroupRecovery(ctx context.Context, group, node string, out any) error {
	q := url.Values{}
	if node != "" {
		q.Set("node", node)
	}
	return c.call(ctx, http.MethodGet, recoveryPath(group), q, nil, out)
}

// RecoverGroup lets a blob group go on with what node has of it and gives the
// lost nodes up for ever; the facts are decoded into out. Again: success.
// library.ErrState: it is not safe.
func (c *Client) RecoverGroup(ctx context.Context, group, node string, lost []string, out any) error {
	in := struct {
		Node string   `json:"node"`
		Lost []string `json:"lost"`
	}{node, lost}
	return c.call(ctx, http.MethodPost, recoveryPath(group), nil, in, out)
}

func recoveryPath(group string) string {
	return "/v1/cluster/groups/" + url.PathEscape(group) + "/recovery"
}

func (c *Client) node(ctx context.Context, method, id, action string) (NodeProgress, error) {
	var p NodeProgress
	err := c.call(ctx, method, "/v1/cluster/nodes/"+url.PathEscape(id)+action, nil, nil, &p)
	return p, err
}
