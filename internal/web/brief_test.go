package web

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"carillon/internal/outlet"
)

// Goal: whatever the pieces, a body of which a Brief wrote the first part has
// each byte once when somebody goes on behind what was taken. The client begins
// to read when the handler has given up on him.
func TestBrief(t *testing.T) {
	t.Parallel()
	body := make([]byte, 12<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(body) // never fails
	pieces := map[string]func(i int) int{
		"large":     func(int) int { return 64 << 10 },
		"odd":       func(i int) int { return 1 + i*7919%70_000 },
		"both":      func(i int) int { return []int{64 << 10, 100, 3000, 5000}[i%4] },
		"small end": func(int) int { return 1 << 20 },
	}
	for name, piece := range pieces {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			taken := make(chan int64, 1)
			s := serve(t, Config{}, func(e *echo.Echo) {
				e.GET("/media/x", func(c echo.Context) error {
					c.Response().Header().Set("Content-Length", strconv.Itoa(len(body)))
					b := NewBrief(c.Response(), c.Request(), int64(len(body)))
					given := 0
					for i := 0; given < len(body); i++ {
						p := body[given:min(len(body), given+piece(i))]
						_, err := b.Write(p)
						if given += len(p); err == nil {
							continue
						}
						if !errors.Is(err, outlet.ErrNoRoom) || b.Taken() != int64(given)-b.Missing() {
							t.Errorf("%d taken of %d, %v", b.Taken(), given, err)
						}
						break
					}
					return HandOver(c.Request(), func(tcp *net.TCPConn, closing func() error) {
						taken <- b.Taken()
						_ = tcp.SetWriteDeadline(time.Now().Add(testWait))
						_, err := tcp.Write(body[b.Taken():])
						if err := errors.Join(err, closing()); err != nil {
							t.Error(err)
						}
					})
				})
			})
			c := dial(t, s)
			if _, err := io.WriteString(c, "GET /media/x HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if n := <-taken; n == 0 || n == int64(len(body)) {
				t.Fatalf("%d bytes taken: this shows nothing", n)
			}
			got, err := io.ReadAll(c)
			_, got, _ = bytes.Cut(got, []byte("\r\n\r\n"))
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d bytes of %d, %v", len(got), len(body), err)
			}
		})
	}
}

// Goal: who takes all is none the wiser, and the connection is kept: also when he
// was waited for, and what net/http believed to be sent is made up for.
func TestBriefToTheEnd(t *testing.T) {
	t.Parallel()
	const piece = 60_000
	body := make([]byte, 12<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(body) // never fails
	full := make(chan struct{}, 1)
	s := serve(t, Config{}, func(e *echo.Echo) {
		e.GET("/media/x", func(c echo.Context) error {
			c.Response().Header().Set("Content-Length", strconv.Itoa(len(body)))
			b := NewBrief(c.Response(), c.Request(), int64(len(body)))
			for at := int64(0); at < int64(len(body)); at = b.Taken() {
				_, err := b.Write(body[at:min(int64(len(body)), at+piece)])
				if err == nil {
					continue
				}
				select {
				case full <- struct{}{}:
				default:
				}
				if ready, aerr := b.Await(testWait); !ready || !errors.Is(err, outlet.ErrNoRoom) {
					t.Errorf("room: %v, %v, %v", ready, err, aerr)
					return err
				}
			}
			return nil
		})
	})
	client := http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	conns := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		ConnectDone: func(string, string, error) { conns++ },
	})
	for range 3 {
		url := "http://" + s.Addr().String() + "/media/x"
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		<-full // he reads nothing until then
		got, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes of %d, %v", len(got), len(body), err)
		}
	}
	if conns != 1 {
		t.Errorf("%d connections", conns)
	}
}

// Goal: net/http gets its buffers of a connection that is handed over back: a
// listener who arrives costs less than them.
func TestHandOverKeepsNothing(t *testing.T) {
	const listeners, bytesMax = 200, 12 << 10
	s := serve(t, Config{}, func(e *echo.Echo) {
		e.GET("/media/x", func(c echo.Context) error {
			return HandOver(c.Request(), func(tcp *net.TCPConn, closing func() error) {
				_, err := io.WriteString(tcp, "HTTP/1.1 204 No Content\r\n\r\n")
				if err := errors.Join(err, closing()); err != nil {
					t.Error(err)
				}
			})
		})
	})
	ask := func() {
		c := dial(t, s)
		_, err := io.WriteString(c, "GET /media/x HTTP/1.1\r\nHost: x\r\n\r\n")
		var head [64]byte
		for err == nil {
			var n int
			n, err = c.Read(head[:])
			if err == nil && !bytes.HasPrefix(head[:n], []byte("HTTP/1.1 204")) {
				t.Fatalf("%q", head[:n])
			}
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	ask()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range listeners {
		ask()
	}
	runtime.ReadMemStats(&after)
	each := (after.TotalAlloc - before.TotalAlloc) / listeners
	t.Logf("%d bytes each, the client's included", each)
	if each > bytesMax {
		t.Errorf("%d bytes for each, at most %d", each, bytesMax)
	}
}
