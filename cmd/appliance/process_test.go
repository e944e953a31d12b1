package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// printTimerSlack is a program that relaxes its timers as a node does, and prints its
// pid and the slack of a thread that it has not touched.
func printTimerSlack() {
	if err := relaxTimers(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	runtime.LockOSThread() // so that the goroutine gets another
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		slack, err := threadSlack()
		fmt.Println(os.Getpid(), slack, os.Args[1:])
		done <- err
	}()
	if err := <-done; err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Goal: all threads of a node have the slack, in the process that was started, with
// the command line that it was started with.
func TestRelaxTimers(t *testing.T) {
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "timerslack", "a", "b")
	cmd.Stdout, cmd.Stderr = &out, t.Output()
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintln(cmd.Process.Pid, timerSlack, []string{"a", "b"}); out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}

func TestStartsNode(t *testing.T) {
	for _, args := range [][]string{{"serve"}, {"serve", "--config", "x"}, {"demo"}} {
		if !startsNode(args) {
			t.Error(args)
		}
	}
	for _, args := range [][]string{nil, {"version"}, {"media", "get", "serve"}, {"--help"}} {
		if startsNode(args) {
			t.Error(args)
		}
	}
}
