package main

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree makes files, all of one sound, and returns their directory.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Goal: the directories of FreeSWITCH, Kazoo and Asterisk are understood: which
// files are which prompts.
func TestScanPrompts(t *testing.T) {
	for _, c := range []struct {
		name  string
		files []string
		rate  string
		want  map[string]string // item to prompt
	}{
		{
			"kazoo",
			[]string{"vm-enter_id.wav", "menu-no_prompt.mp3", "README.md", ".hidden.wav", ".git/x.wav"},
			"8000",
			map[string]string{"en-us/vm-enter_id": "vm-enter_id", "en-us/menu-no_prompt": "menu-no_prompt"},
		},
		{
			"kazoo with languages",
			[]string{"en-us/vm-a.wav", "fr-ca/vm-a.wav", "en-gb/vm-b.wav"},
			"8000",
			map[string]string{"en-us/vm-a": "vm-a"},
		},
		{
			"freeswitch",
			[]string{
				"en/us/callie/ivr/8000/ivr-hello.wav", "en/us/callie/ivr/16000/ivr-hello.wav",
				"en/us/callie/digits/8000/1.wav", "en/us/callie/digits/8000/h-1.wav", "en/us/callie/time/8000/1.wav",
				"fr/ca/june/digits/8000/1.wav", "en/us/callie/voicemail/16000/vm-only_wide.wav",
				"en/us/callie/base256/32000/a.wav", "en/us/callie/base256/48000/a.wav",
			},
			"8000",
			map[string]string{
				"en-us/ivr/ivr-hello": "ivr-hello", "en-us/digits/1": "digits-1", "en-us/digits/h-1": "digits-h-1",
				"en-us/time/1": "time-1", "en-us/voicemail/vm-only_wide": "vm-only_wide",
				"en-us/base256/a": "base256-a",
			},
		},
		{
			"freeswitch, below the voice",
			[]string{"ivr/8000/ivr-hello.wav", "digits/16000/1.wav"},
			"16000",
			map[string]string{"en-us/ivr/ivr-hello": "ivr-hello", "en-us/digits/1": "digits-1"},
		},
		{
			"asterisk",
			[]string{"en_US_f_Allison/vm-a.wav", "en_US_f_Allison/digits/1.wav", "es_MX_f_Allison/vm-a.wav"},
			"8000",
			map[string]string{"en-us/vm-a": "vm-a", "en-us/digits/1": "digits-1"},
		},
		{"twice", []string{"a.mp3", "a.wav", "b.gsm"}, "8000", map[string]string{"en-us/a": "a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := scanPrompts(tree(t, c.files...), "en-us", c.rate)
			if err != nil {
				t.Fatal(err)
			}
			items := make(map[string]string)
			for _, f := range got.files {
				items[f.id] = f.prompt
				if strings.HasSuffix(f.path, "hello.wav") && strings.Contains(f.path, "16000") {
					t.Errorf("took %s", f.path)
				}
			}
			if diff := cmp.Diff(c.want, items); diff != "" {
				t.Error(diff)
			}
			if c.name == "twice" && len(got.skipped) != 2 {
				t.Errorf("skipped %q", got.skipped)
			}
		})
	}
	for name, files := range map[string][]string{
		"two voices": {"en/us/callie/ivr/8000/a.wav", "en/us/allison/ivr/8000/a.wav"},
		"nothing":    {"README"},
		"two of it":  {"en-us/a.wav", "en_US_x/a.wav"},
	} {
		if _, err := scanPrompts(tree(t, files...), "en-us", "8000"); !errors.Is(err, errUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	one, err := scanPrompts(filepath.Join(tree(t, "x/vm-a.wav"), "x", "vm-a.wav"), "en-us", "8000")
	if err != nil || len(one.files) != 1 || one.files[0].id != "en-us/vm-a" || one.files[0].prompt != "vm-a" {
		t.Errorf("one file: %+v, %v", one, err)
	}
	if _, err := scanPrompts("/nowhere", "en-us", "8000"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// asteriskSounds is Debian's asterisk-core-sounds-en-wav: real prompts of a
// real telephone system.
const asteriskSounds = "/usr/share/asterisk/sounds"

// Goal: all prompts of a real package become prompts. Method: the directory is
// counted by other means.
func TestScanRealPrompts(t *testing.T) {
	got, err := scanPrompts(asteriskSounds, "en-us", "8000")
	if err != nil {
		t.Fatalf("asterisk-core-sounds-en-wav is not installed, see .ci/run: %v", err)
	}
	files := 0
	err = filepath.WalkDir(got.dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(name) == ".wav" {
			files++
		}
		return err
	})
	if err != nil || len(got.files) != files || files < 500 || len(got.skipped) > 0 {
		t.Errorf("%d prompts of %d files, skipped %q, %v", len(got.files), files, got.skipped, err)
	}
	names := make(map[string]bool)
	for _, f := range got.files {
		names[f.prompt] = true
	}
	for _, want := range []string{"vm-undelete", "digits-1", "letters-a", "phonetic-a_p"} {
		if !names[want] {
			t.Errorf("prompt %s is missing among %d", want, len(names))
		}
	}
	if len(names) != len(got.files) {
		t.Errorf("%d names for %d files: %v", len(names), len(got.files), slices.Sorted(maps.Keys(names)))
	}
}
