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
}

func (s *Server) clusterNodeRoutes(e *echo.Echo) {
	const node = "/v1/cluster/nodes/:id"
	e.GET(node, s.guarded("get_node", s.onNode(http.StatusOK, Nodes.Progress)))
	e.DELETE(node, s.guarded("remove_node", s.onNode(http.StatusAccepted, Nodes.Remove)))
	e.POST(node+"/drain", s.guarded("drain_node", s.onNode(http.StatusAccepted, Nodes.Drain)))
	e.POST(node+"/undrain", s.guarded("undrain_node", s.onNode(http.StatusAccepted, Nodes.Undrain)))
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
