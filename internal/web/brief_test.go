package web

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
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
					b := NewBrief(c.Response(), c.Request(), int64(len(body)), 50*time.Millisecond)
					given := 0
					for i := 0; given < len(body); i++ {
						p := body[given:min(len(body), given+piece(i))]
						_, err := b.Write(p)
						if given += len(p); err == nil {
							continue
						}
						if !errors.Is(err, ErrNoRoom) || b.Taken() != int64(given)-b.Missing() {
							t.Errorf("%d taken of %d, %v", b.Taken(), given, err)
						}
						break
					}
					tcp, closing, err := b.Take()
					if err != nil {
						t.Error(err)
						return err
					}
					taken <- b.Taken()
					_ = tcp.SetWriteDeadline(time.Now().Add(testWait))
					_, err = tcp.Write(body[b.Taken():])
					return errors.Join(err, closing())
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

// Goal: who takes all is none the wiser, and the connection is kept.
func TestBriefToTheEnd(t *testing.T) {
	t.Parallel()
	body := bytes.Repeat([]byte("sound"), 50_000)
	s := serve(t, Config{}, func(e *echo.Echo) {
		e.GET("/media/x", func(c echo.Context) error {
			c.Response().Header().Set("Content-Length", strconv.Itoa(len(body)))
			b := NewBrief(c.Response(), c.Request(), int64(len(body)), testWait)
			for rest := body; len(rest) > 0; rest = rest[min(len(rest), 60_000):] {
				if _, err := b.Write(rest[:min(len(rest), 60_000)]); err != nil {
					t.Error(err)
				}
			}
			return nil
		})
	})
	client := http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	for range 3 {
		url := "http://" + s.Addr().String() + "/media/x"
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes of %d, %v", len(got), len(body), err)
		}
	}
}
