package library

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"carillon/library/field"
	"carillon/library/libtest"
)

func TestPromptList(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	ctx := t.Context()
	for _, p := range [][2]string{
		{"vm-a", "en-us"},
		{"vm-a", "fr-fr"},
		{"vm-b", "en-us"},
		{"vm-b.2", "en-us"},
		{"vm-c", "en-us"},
		{"vm-c", "fr"},
		{"ivr-d", "fr-fr"},
	} {
		put(t, l, "acme", p[1]+"/"+p[0], mp3Sound(3), PutOptions{Prompt: p[0], Language: p[1]})
	}
	put(t, l, "acme", "no-prompt", mp3Sound(3), PutOptions{})
	put(t, l, "acme-2", "x", mp3Sound(3), PutOptions{Prompt: "vm-x", Language: "en"})
	names := func(q PromptQuery) (all []string) {
		for q.Limit = 2; ; {
			page := libtest.Must[PromptPage](t)(l.Prompts(ctx, "acme", q))
			for _, p := range page.Items {
				all = append(all, p.Prompt)
			}
			if q.After = page.Next; q.After == "" {
				return all
			}
		}
	}
	for _, c := range []struct {
		q    PromptQuery
		want []string
	}{
		{PromptQuery{}, []string{"ivr-d", "vm-a", "vm-b.2", "vm-b", "vm-c"}}, // as keys sort
		{PromptQuery{Prefix: "vm-b"}, []string{"vm-b.2", "vm-b"}},
		{PromptQuery{Language: "FR-fr"}, []string{"ivr-d", "vm-a"}},
		{PromptQuery{Language: "en-us", Missing: "fr-fr"}, []string{"vm-b.2", "vm-b", "vm-c"}},
		{PromptQuery{Language: "en-us", Missing: "fr"}, []string{"vm-b.2", "vm-b"}},
		{PromptQuery{Missing: "en-us"}, []string{"ivr-d"}},
		{PromptQuery{Missing: "en"}, []string{"ivr-d"}},
	} {
		if diff := cmp.Diff(c.want, names(c.q)); diff != "" {
			t.Errorf("%+v:\n%s", c.q, diff)
		}
	}
	page := libtest.Must[PromptPage](t)(l.Prompts(ctx, "acme", PromptQuery{Prefix: "vm-a"}))
	want := []Prompt{{"vm-a", map[string]string{"en-us": "en-us/vm-a", "fr-fr": "fr-fr/vm-a"}}}
	if diff := cmp.Diff(want, page.Items); diff != "" {
		t.Error(diff)
	}
	languages := libtest.Must[[]LanguageCount](t)(l.Languages(ctx, "acme"))
	if diff := cmp.Diff([]LanguageCount{{"en-us", 4, 1}, {"fr", 1, 4}, {"fr-fr", 2, 3}}, languages); diff != "" {
		t.Error(diff)
	}
	_, err := l.Prompts(ctx, "acme", PromptQuery{Missing: "a b"})
	libtest.Equal(t, "no language", fieldCode(err, "missing"), field.Invalid)
}
