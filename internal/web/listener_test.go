package web

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
)

// A client that never reads is cut off after the configured time, and its
// goroutine ends.
func TestWriteStall(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	s := serve(t, Config{WriteStall: 200 * time.Millisecond}, func(e *echo.Echo) {
		e.GET("/media/x", func(c echo.Context) error {
			buf := make([]byte, 64<<10)
			for {
				if _, err := c.Response().Write(buf); err != nil {
					failed <- err
					return err
				}
			}
		})
	})
	c := dial(t, s)
	if _, err := io.WriteString(c, "GET /media/x HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("write failed with %v, want a timeout", err)
		}
	case <-time.After(testWait):
		t.Fatal("still writing to a client that never reads")
	}
}

// A handler's own write deadline holds, though the connection's is far away:
// who follows events and takes none is dropped.
func TestWriteDeadlineOfHandler(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	s := serve(t, Config{WriteStall: time.Hour}, func(e *echo.Echo) {
		e.GET("/v1/x", func(c echo.Context) error {
			c.Response().Header().Set("Connection", "close")
			control, buf := http.NewResponseController(c.Response()), make([]byte, 64<<10)
			for {
				err := control.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
				if err == nil {
					_, err = c.Response().Write(buf)
				}
				if err != nil {
					failed <- err
					return err
				}
			}
		})
	})
	c := dial(t, s)
	if _, err := io.WriteString(c, "GET /v1/x HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
			t.Errorf("write failed with %v, want a timeout", err)
		}
	case <-time.After(testWait):
		t.Fatal("still writing to a client that never reads")
	}
}

// A slow reader that goes on reading is not cut off, even if the whole takes
// many times the stall time; and a keep-alive connection that idled past the
// deadline of its last response can be used again.
func TestSlowReaderIsKept(t *testing.T) {
	t.Parallel()
	const stall = 100 * time.Millisecond
	s := serve(t, Config{WriteStall: stall}, func(e *echo.Echo) {
		e.GET("/v1/:n", func(c echo.Context) error { return c.String(http.StatusOK, "ok") })
	})
	c := dial(t, s)
	r := bufio.NewReader(c)
	for range 4 {
		if _, err := io.WriteString(c, "GET /v1/x HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("connection was cut: %v", err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		<-time.After(stall * 3 / 2) // the passing of time is what is tested
	}
}

// Over the limit of connections a client is told so at once; a place that
// gets free is used again.
func TestConnsMax(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{ConnsMax: 1}, func(e *echo.Echo) {
		e.GET("/v1/x", func(c echo.Context) error { return c.NoContent(http.StatusNoContent) })
	})
	const get = "GET /v1/x HTTP/1.1\r\nHost: x\r\n\r\n"
	held := dial(t, s)
	if _, err := io.WriteString(held, get); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(held), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Fatalf("first connection: %v", resp)
	}
	if resp, err = http.ReadResponse(bufio.NewReader(dial(t, s)), nil); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.ContentLength != 0 {
		t.Errorf("second connection: %v", resp)
	}
	_ = held.Close()
	for deadline := time.Now().Add(testWait); ; {
		if resp, _ := exchange(t, s, get); resp.StatusCode == http.StatusNoContent {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the place of a closed connection was not given back")
		}
	}
}

// WriteFirst changes how bytes travel, not which: whatever the sizes of head
// and body, with more writes after it, on one kept connection.
func TestWriteFirst(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{}, func(e *echo.Echo) {
		e.GET("/v1/:head/:body/:more", func(c echo.Context) error {
			head, _ := strconv.Atoi(c.Param("head"))
			body, _ := strconv.Atoi(c.Param("body"))
			more, _ := strconv.Atoi(c.Param("more"))
			c.Response().Header().Set("X-Long", strings.Repeat("h", head))
			if body%2 == 0 { // else chunked
				c.Response().Header().Set("Content-Length", strconv.Itoa(body+more))
			}
			n, err := WriteFirst(c.Response(), c.Request(), pattern(body))
			if n != body || err != nil {
				return fmt.Errorf("wrote %d of %d: %w", n, body, err)
			}
			_, err = c.Response().Write(pattern(more))
			return err
		})
	})
	c := dial(t, s)
	r := bufio.NewReader(c)
	sizes := []int{0, 1, 4095, 4096, 8191, 8192, 8193, 70_001, 1 << 20}
	for _, head := range []int{0, 3000, 4096, 5000, 9000} {
		for _, body := range sizes {
			for _, more := range []int{0, 100, 5001} {
				_, err := fmt.Fprintf(c, "GET /v1/%d/%d/%d HTTP/1.1\r\nHost: x\r\n\r\n", head, body, more)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				if err = errors.Join(err, resp.Body.Close()); err != nil {
					t.Fatal(err)
				}
				want := append(pattern(body), pattern(more)...)
				if !bytes.Equal(got, want) || len(resp.Header.Get("X-Long")) != head {
					t.Fatalf("head %d, body %d, more %d: got %d bytes", head, body, more, len(got))
				}
			}
		}
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 31 >> 4)
	}
	return b
}
