package main

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// promptFile is a file that is to become a prompt.
type promptFile struct {
	path   string // on this machine
	prompt string // its id
	id     string // of the item, LANGUAGE/…
	size   int64
}

// promptTree is what a directory of prompts holds.
type promptTree struct {
	dir     string // the one that the language led to
	files   []promptFile
	skipped []string // with a reason each, "FILE: REASON"
}

// sampleRates are the names of the directories in which FreeSWITCH keeps the
// same sounds at several rates.
func sampleRates() []string { return []string{"8000", "16000", "32000", "48000"} }

// scanPrompts finds the prompts of a language below dir, which may be one file,
// too. It understands
//
//	vm-enter_id.wav                          Kazoo, Asterisk
//	en-us/vm-enter_id.wav, en_US_f_Allison/… with the language as a directory
//	digits/1.wav                             Asterisk: prompt digits-1
//	en/us/callie/ivr/8000/ivr-hello.wav      FreeSWITCH: prompt ivr-hello
//	en/us/callie/digits/8000/1.wav           FreeSWITCH: prompt digits-1
//
// Of several rates it takes the one that is asked for, else the lowest that is
// there, which is a telephone's.
func scanPrompts(dir, language, rate string) (promptTree, error) {
	found := make(map[string]candidate)
	if info, err := os.Stat(dir); err == nil && !info.IsDir() { // one prompt
		tree := promptTree{dir: filepath.Dir(dir)}
		tree.add(found, dir, filepath.Base(dir), rate)
		return tree.finish(found, language)
	}
	dir, err := languageDir(dir, language)
	if err != nil {
		return promptTree{}, err
	}
	tree := promptTree{dir: dir}
	err = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(entry.Name(), ".") && name != dir {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if entry.IsDir() {
			return nil
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		tree.add(found, name, filepath.ToSlash(rel), rate)
		return nil
	})
	if err != nil {
		return promptTree{}, fmt.Errorf("read prompts: %w", err)
	}
	return tree.finish(found, language)
}

// finish makes the list of the files that were found.
func (t *promptTree) finish(found map[string]candidate, language string) (promptTree, error) {
	for _, c := range found {
		c.id = language + "/" + c.key
		t.files = append(t.files, c.promptFile)
	}
	slices.SortFunc(t.files, func(a, b promptFile) int { return strings.Compare(a.id, b.id) })
	return *t, oneVoice(t.files, t.dir, found)
}

// candidate is a file and how much it is wanted among those of one prompt.
type candidate struct {
	promptFile

	key   string // of the prompt: category/name
	voice string // directories above the category
	rank  int    // the lower the better
}

// add takes a file in, if it is the best so far of its prompt.
func (t *promptTree) add(found map[string]candidate, name, rel, rate string) {
	ext := strings.ToLower(path.Ext(rel))
	format := slices.Index([]string{".wav", ".mp3"}, ext)
	if format < 0 {
		if slices.Contains([]string{".ogg", ".gsm", ".ulaw", ".alaw", ".sln", ".g722", ".g729", ".raw"}, ext) {
			t.skipped = append(t.skipped, rel+": only .wav and .mp3 are prompts")
		}
		return
	}
	info, err := os.Stat(name) // through links, of which Asterisk has some
	if err != nil || !info.Mode().IsRegular() {
		t.skipped = append(t.skipped, rel+": is no file")
		return
	}
	c := candidate{promptFile: promptFile{path: name, size: info.Size()}}
	segments := strings.Split(strings.TrimSuffix(rel, path.Ext(rel)), "/")
	base, folders := segments[len(segments)-1], segments[:len(segments)-1]
	atRate := ""
	if n := len(folders); n > 0 && slices.Contains(sampleRates(), folders[n-1]) {
		atRate, folders = folders[n-1], folders[:n-1]
		// Above the category only the voice can be.
		if n := len(folders); n > 1 {
			c.voice, folders = strings.Join(folders[:n-1], "/"), folders[n-1:]
		}
	}
	c.rank = 10*rateRank(atRate, rate) + format
	c.key = path.Join(append(folders, base)...)
	c.prompt = promptName(folders, base)
	before, there := found[c.voice+"\x00"+c.key]
	if !there || c.rank < before.rank {
		found[c.voice+"\x00"+c.key] = c
	}
	if there && atRate == "" {
		t.skipped = append(t.skipped, rel+": another file is the same prompt")
	}
}

func rateRank(rate, wanted string) int {
	if rate == wanted {
		return 0
	}
	return 1 + slices.Index(sampleRates(), rate)
}

// promptName is the prompt that a file of some category is: FreeSWITCH's
// ivr/ivr-hello is ivr-hello and voicemail/vm-hello is vm-hello, as callers
// know them; digits/1 is digits-1, or each category would have the same "1".
func promptName(folders []string, base string) string {
	name := base
	for _, folder := range slices.Backward(folders) {
		if !strings.HasPrefix(name, categoryPrefix(folder)) {
			name = folder + "-" + name
		}
	}
	return name
}

// categoryPrefix is what names of a category begin with that tell it already.
func categoryPrefix(folder string) string {
	switch folder {
	case "voicemail":
		return "vm-"
	case "conference":
		return "conf-"
	case "directory":
		return "dir-"
	}
	return folder + "-"
}

// languageDir goes down to the language, if the directory has one for it:
// en-us, en_US…, or en/us.
func languageDir(dir, language string) (string, error) {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", fmt.Errorf("prompts: %w", err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return "", fmt.Errorf("prompts: %w", err)
	}
	var found []string
	for _, e := range entries {
		tag := strings.ReplaceAll(strings.ToLower(e.Name()), "_", "-")
		if e.IsDir() && (tag == language || strings.HasPrefix(tag, language+"-")) {
			found = append(found, filepath.Join(root, e.Name()))
		}
	}
	if first, second, split := strings.Cut(language, "-"); split {
		if deep := filepath.Join(root, first, second); isDir(deep) {
			found = append(found, deep)
		}
	}
	switch len(found) {
	case 0:
		return root, nil
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%s has several directories for %s, name one: %s: %w",
		dir, language, strings.Join(found, " "), errUsage)
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// oneVoice refuses a directory in which several voices say the same.
func oneVoice(files []promptFile, dir string, found map[string]candidate) error {
	if len(files) == 0 {
		return fmt.Errorf("%s holds no .wav or .mp3: %w", dir, errUsage)
	}
	var voices []string
	for _, c := range found {
		if !slices.Contains(voices, c.voice) {
			voices = append(voices, c.voice)
		}
	}
	if len(voices) < 2 {
		return nil
	}
	for i := 1; i < len(files); i++ {
		if files[i].id == files[i-1].id {
			slices.Sort(voices)
			return fmt.Errorf("%s holds several voices, name one of them: %s: %w",
				dir, strings.TrimSpace(strings.Join(voices, " ")), errUsage)
		}
	}
	return nil
}
