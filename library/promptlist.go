package library

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"carillon/library/naming"
	"carillon/library/rows"
)

// PromptQuery selects prompts of an account: those whose fields say that they
// are one.
type PromptQuery struct {
	Prefix, After string
	// Language selects prompts that are there in exactly that language.
	Language string
	// Missing selects prompts that are there in Language ("": any) and not in
	// this one; a longer form of it counts as being there, not a shorter.
	Missing string
	Limit   int // 0: PageLimitDefault
}

// Prompt is a prompt of an account in all its languages.
type Prompt struct {
	Prompt    string            `json:"prompt_id"`
	Languages map[string]string `json:"languages"` // language to the item's id
}

// PromptPage is one page of prompts; Next is the After of the following page,
// "" at the end.
type PromptPage struct {
	Items []Prompt `json:"items"`
	Next  string   `json:"next,omitempty"`
}

// LanguageCount says how many prompts an account has in a language.
type LanguageCount struct {
	Language string `json:"language"`
	Prompts  int    `json:"prompts"`
	// Missing is how many prompts it lacks that the account has in another.
	Missing int `json:"missing"`
}

// Prompts lists prompts in the order of their ids.
func (l *Library) Prompts(ctx context.Context, account string, q PromptQuery) (PromptPage, error) {
	if err := naming.CheckAccount(account); err != nil {
		return PromptPage{}, err
	}
	q.Language, q.Missing = strings.ToLower(q.Language), strings.ToLower(q.Missing)
	var c checks
	c.Text("prefix", q.Prefix, promptBytesMax)
	c.Text("after", q.After, promptBytesMax)
	c.language("language", q.Language)
	c.language("missing", q.Missing)
	if err := c.Err(); err != nil {
		return PromptPage{}, err
	}
	limit, err := rows.PageLimit(q.Limit)
	if err != nil {
		return PromptPage{}, err
	}
	if q.After == "" {
		if err := l.rows.CatchUp(ctx); err != nil {
			return PromptPage{}, err
		}
	}
	page := PromptPage{Items: []Prompt{}}
	err = l.eachPrompt(ctx, account, q.Prefix, q.After, func(p Prompt) bool {
		if !q.wants(&p) {
			return true
		}
		if len(page.Items) == limit {
			page.Next = page.Items[limit-1].Prompt
			return false
		}
		page.Items = append(page.Items, p)
		return true
	})
	return page, err
}

func (q *PromptQuery) wants(p *Prompt) bool {
	if _, there := p.Languages[q.Language]; q.Language != "" && !there {
		return false
	}
	if q.Missing == "" {
		return true
	}
	for language := range p.Languages {
		if slices.Contains(languageKeys(language), q.Missing) {
			return false
		}
	}
	return true
}

// Languages counts an account's prompts by language.
func (l *Library) Languages(ctx context.Context, account string) ([]LanguageCount, error) {
	if err := naming.CheckAccount(account); err != nil {
		return nil, err
	}
	if err := l.rows.CatchUp(ctx); err != nil {
		return nil, err
	}
	counts, total := make(map[string]int), 0
	err := l.eachPrompt(ctx, account, "", "", func(p Prompt) bool {
		total++
		for language := range p.Languages {
			counts[language]++
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	all := make([]LanguageCount, 0, len(counts))
	for language, n := range counts {
		all = append(all, LanguageCount{language, n, total - n})
	}
	slices.SortFunc(all, func(a, b LanguageCount) int { return strings.Compare(a.Language, b.Language) })
	return all, nil
}

// eachPrompt gives an account's prompts with a prefix, those after one, to
// yield until that has enough.
func (l *Library) eachPrompt(
	ctx context.Context, account, prefix, after string, yield func(Prompt) bool,
) error {
	base := promptPrefix + account + "/"
	from := ""
	if after != "" {
		from = base + after + "/\xff" // behind all its languages
	}
	var p Prompt
	for row, err := range l.rows.Scan(ctx, base+prefix, from) {
		if err != nil {
			return fmt.Errorf("list prompts of %s: %w", account, err)
		}
		name, language, _ := strings.Cut(row.Key[len(base):], "/")
		id, err := rows.DecodeText(row.Value)
		if err != nil {
			return fmt.Errorf("prompt %s/%s: %w", account, name, err)
		}
		if name != p.Prompt {
			if p.Prompt != "" && !yield(p) {
				return nil
			}
			p = Prompt{name, make(map[string]string, 2)}
		}
		p.Languages[language] = id
	}
	if p.Prompt != "" {
		yield(p)
	}
	return nil
}
