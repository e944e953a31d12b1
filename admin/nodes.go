package admin

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"
)

// Nodes changes what is wanted of the nodes of the cluster. What is returned is
// the node's progress and is sent as JSON. library.ErrState: not safe now.
type Nodes interface {
	Drain(ctx context.Context, id string) (any, error)
	Undrain(ctx context.Context, id string) (any, error)
	Remove(ctx context.Context, id string) (any, error)
	Progress(ctx context.Context, id string) (any, error)
	// GroupRecovery tells of a group that may have lost its majority, with node
	// as the one to go on with ("": the best), and RecoverGroup goes on with it,
	// giving the lost nodes up for ever. Both return the facts.
	GroupRecovery(ctx context.Context, group, node string) (any, error)
	RecoverGroup(ctx context.Context, group, node string, lost []string) (any, error)
}

// RecoverGroupRequest is the body of POST /v1/cluster/groups/{group}/recovery.
type RecoverGroupRequest struct {
	Node string   `json:"node"` // to go on with
	Lost []string `json:"lost"` // every node that is given up for ever
}

func (s *Server) clusterNodeRoutes(e *echo.Echo) {
	const node = "/v1/cluster/nodes/:id"
	e.GET(node, s.guarded("get_node", s.onNode(http.StatusOK, Nodes.Progress)))
	e.DELETE(node, s.guarded("remove_node", s.onNode(http.StatusAccepted, Nodes.Remove)))
	e.POST(node+"/drain", s.guarded("drain_node", s.onNode(http.StatusAccepted, Nodes.Drain)))
	e.POST(node+"/undrain", s.guarded("undrain_node", s.onNode(http.StatusAccepted, Nodes.Undrain)))
	const recovery = "/v1/cluster/groups/:group/recovery"
	e.GET(recovery, s.guarded("get_group_recovery", s.groupRecovery))
	e.POST(recovery, s.guarded("recover_group", s.recoverGroup))
}

func (s *Server) groupRecovery(c echo.Context) error {
	facts, err := s.deps.Nodes.GroupRecovery(c.Request().Context(), c.Param("group"), c.QueryParam("node"))
	if err != nil {
		return err //nolint:wrapcheck // in words that FaultOf knows
	}
	return sendJSON(c, http.StatusOK, facts)
}

func (s *Server) recoverGroup(c echo.Context) error {
	var r RecoverGroupRequest
	if err := readJSON(c, &r); err != nil {
		return err
	}
	facts, err := s.deps.Nodes.RecoverGroup(c.Request().Context(), c.Param("group"), r.Node, r.Lost)
	if err != nil {
		return err //nolint:wrapcheck // in words that FaultOf knows
	}
	return sendJSON(c, http.StatusAccepted, facts)
}

// onNode answers with the progress: the wish is written down, and what follows
// from it takes its time.
func (s *Server) onNode(status int, act func(Nodes, context.Context, string) (any, error)) echo.HandlerFunc {
	return func(c echo.Context) error {
		progress, err := act(s.deps.Nodes, c.Request().Context(), c.Param("id"))
		if err != nil {
			return err
		}
		return sendJSON(c, status, progress)
	}
}
