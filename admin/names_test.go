package admin

import (
	"testing"
	"time"
)

// TestAccounts: settings over HTTP, on the real library.
func TestAccounts(t *testing.T) {
	n := newStored(t)
	n.run(t, []scenario{
		{
			name: "none yet", method: "GET", path: "/v1/accounts/acme", status: 200,
			contains: []string{`"revision":0`},
		},
		{
			name: "put", method: "PUT", path: "/v1/accounts/acme",
			body: `{"language":"DE-de","retention_seconds":{"voicemail":60},"quota":{"items":5,"bytes":0},
				"listener_auth":{"mode":"basic","user":"u","password":"s3cret-pass"}}`,
			status: 200, lacks: "s3cret",
			contains: []string{`"language":"de-de"`, `"password":"***"`, `"voicemail":60`},
		},
		{
			name: "patch", method: "PATCH", path: "/v1/accounts/acme",
			body: `{"gain_db":6,"quota":{"bytes":1000},"retention_seconds":{"recording":5}}`, status: 200,
			contains: []string{`"gain_db":6`, `"quota":{"bytes":1000,"items":5}`, `"recording":5`, `"voicemail":60`},
		},
		{
			name: "numbers beyond all bounds", method: "PATCH", path: "/v1/accounts/acme",
			body: `{"quota":{"bytes":1e30}}`, status: 400, code: "bad_request",
			contains: []string{`"quota.bytes":{"code":"invalid","message":"cannot be the number 1e30"}`},
		},
		{
			name: "no time", method: "POST", path: "/v1/accounts/acme/retention/preview",
			body: `{"at":"yesterday"}`, status: 400, code: "bad_request",
			contains: []string{`yesterday`, `is no time like`}, lacks: "parsing",
		},
		{
			name: "fields", method: "PATCH", path: "/v1/accounts/acme", body: `{"gain_db":99,"language":"a b"}`,
			status: 400, code: "bad_request",
			contains: []string{`"fields":{"gain_db":{"code":"range"`, `"language":{"code":"invalid"`},
		},
		{
			name: "misspelt", method: "PATCH", path: "/v1/accounts/acme", body: `{"gian_db":9}`, status: 400,
			code: "bad_request", contains: []string{"gian_db"},
		},
		{
			name: "old revision", method: "PUT", path: "/v1/accounts/acme", body: `{}`,
			headers: []string{`If-Match: "1"`},
			status:  412, code: "precondition_failed",
		},
		{name: "bad name", method: "GET", path: "/v1/accounts/a%20b", status: 400, code: "bad_name"},
		{name: "list", method: "GET", path: "/v1/accounts", status: 200, contains: []string{`"account":"acme"`}},
		{
			name: "replace all", method: "PUT", path: "/v1/accounts/acme", body: `{"name":"A"}`, status: 200,
			contains: []string{`"name":"A"`, `"listener_auth":{}`}, lacks: "voicemail",
		},
		{name: "delete", method: "DELETE", path: "/v1/accounts/acme", status: 204},
		{name: "delete again", method: "DELETE", path: "/v1/accounts/acme", status: 404, code: "not_found"},
	})
}

// TestNames: copy, rename, second names, deletion and return over HTTP.
func TestNames(t *testing.T) {
	n := newStored(t)
	sound := wav(t, time.Second)
	etag := `"` + sumOf(sound) + `"`
	n.put(t, "/media/acme/a/b?prompt_id=p&language=en&class=voicemail&source_id=box&tts_text=Hi&"+
		"streamable=false", sound)
	n.run(t, []scenario{
		{
			name: "all fields", method: "GET", path: "/v1/accounts/acme/media/a/b", status: 200,
			contains: []string{
				`"class":"voicemail"`, `"source_id":"box"`, `"tts":{"text":"Hi"}`, `"streamable":false`,
				`"media_source":"upload"`,
			},
		},
		{
			name: "wrong fields", method: "PUT", path: "/media/acme/x?class=x&media_source=tts&prompt_id=a/b",
			body: sound, status: 400, code: "bad_request",
			contains: []string{
				`"class":{"code":"unknown"`, `"tts.text":{"code":"required"`, `"prompt_id":{"code":"invalid"`,
			},
		},
		{
			name: "no boolean", method: "PUT", path: "/media/acme/x?streamable=1", body: sound, status: 400,
			code: "bad_request", contains: []string{`"fields":{"streamable"`},
		},
		{
			name: "another prompt", method: "PATCH", path: "/v1/accounts/acme/media/a/b", body: `{"prompt_id":"q"}`,
			status: 400, code: "bad_request", contains: []string{`"prompt_id":{"code":"fixed"`},
		},
		{
			name: "lookups", method: "POST", path: "/v1/lookup",
			body: `{"account":"acme","player":"plain","lookups":[{"name":"a/b"},{"name":"silence"},
				{"name":"a//b"},{"name":"x","player":"vlc"}]}`,
			status: 200, contains: []string{
				`{"name":"a/b","error":{"code":"not_found"`, // it is not streamable
				`{"name":"silence","stream_url":"silence"`, `{"name":"a//b","error":{"code":"bad_name"`,
				`"fields":{"player":{"code":"unknown"`,
			},
		},
		{
			name: "one lookup in a batch", method: "POST", path: "/v1/lookup", body: `{"name":"a/b"}`, status: 400,
			code: "bad_request", contains: []string{`"fields":{"name":`},
		},
		{
			name: "lookups of no consistency", method: "POST", path: "/v1/lookup",
			body: `{"consistency":"maybe","lookups":[{"name":"silence"}]}`, status: 400, code: "bad_request",
		},
		{
			name: "streamable again", method: "PATCH", path: "/v1/accounts/acme/media/a/b",
			body: `{"streamable":true}`, status: 200, lacks: "streamable",
		},
		{
			name: "lookup for a player", method: "GET", path: "/v1/lookup?name=prompt://acme/p/en&player=shell_stream",
			status: 200, contains: []string{
				`"freeswitch":"shell_stream:///usr/local/bin/carillon-stream http://node:8080/play/`, `/a/b.raw"`,
			},
		},
		{
			name: "prompts", method: "GET", path: "/v1/accounts/acme/prompts?missing=de&language=en", status: 200,
			contains: []string{`{"items":[{"prompt_id":"p","languages":{"en":"a/b"}}]}`},
		},
		{
			name: "languages", method: "GET", path: "/v1/accounts/acme/languages", status: 200,
			contains: []string{`{"items":[{"language":"en","prompts":1,"missing":0}]}`},
		},
		{
			name: "copy", method: "POST", path: "/v1/media/copy",
			body:   `{"from":{"account":"acme","id":"a/b"},"to":{"account":"other","id":"c"},"set":{"name":"N"}}`,
			status: 201, contains: []string{`"account":"other"`, `"name":"N"`, `"prompt_id":"p"`},
			wantHeader: "ETag: " + etag, headers: []string{"If-Match: " + etag},
		},
		{
			name: "uses", method: "GET", path: "/v1/accounts/acme/media/a%2Fb/uses", status: 200,
			contains: []string{`"items":[{"kind":"prompt","account":"acme","id":"p","language":"en"}]`},
		},
		{
			name: "uses of nothing", method: "GET", path: "/v1/accounts/acme/media/none/uses", status: 404,
			code: "not_found",
		},
		{
			name: "copy again", method: "POST", path: "/v1/media/copy",
			body:   `{"from":{"account":"acme","id":"a/b"},"to":{"account":"other","id":"c"}}`,
			status: 409, code: "exists",
		},
		{
			name: "copy if not there", method: "POST", path: "/v1/media/copy", headers: []string{"If-None-Match: *"},
			body:   `{"from":{"account":"acme","id":"a/b"},"to":{"account":"other","id":"c"},"overwrite":true}`,
			status: 412, code: "precondition_failed",
		},
		{
			name: "copy without names", method: "POST", path: "/v1/media/copy", body: `{}`, status: 400,
			code:     "bad_request",
			contains: []string{`"from":{"code":"invalid"`, `"to":{"code":"invalid"`},
		},
		{
			name: "rename", method: "POST", path: "/v1/media/rename",
			body:   `{"from":{"account":"other","id":"c"},"to":{"account":"other","id":"d"}}`,
			status: 201, wantHeader: "Location: /media/other/d",
		},
		{
			name: "alias", method: "POST", path: "/v1/media/alias",
			body:   `{"alias":{"account":"other","id":"e"},"of":{"account":"other","id":"d"}}`,
			status: 201, contains: []string{`"alias_of":"other/d"`},
		},
		{
			name: "document of the alias", method: "GET", path: "/v1/accounts/other/media/e", status: 200,
			contains: []string{`"id":"d"`},
		},
		{
			name: "usage", method: "GET", path: "/v1/accounts/other/usage", status: 200,
			contains: []string{`"items":1`}, // a second name takes no room
		},
		{name: "delete", method: "DELETE", path: "/media/other/d", status: 204},
		{
			name: "deleted", method: "GET", path: "/v1/accounts/other/media?deleted=true", status: 200,
			contains: []string{`"id":"d"`, `"reason":"request"`},
		},
		{
			name: "undelete", method: "POST", path: "/v1/media/undelete",
			body: `{"account":"other","id":"d"}`, status: 201,
			wantHeader: "ETag: " + etag,
		},
		{
			name: "undelete again", method: "POST", path: "/v1/media/undelete", body: `{"account":"other","id":"d"}`,
			status: 404, code: "not_found",
		},
		{name: "delete for good", method: "DELETE", path: "/v1/accounts/other/media/d?hard=true", status: 204},
		{
			name: "nothing deleted", method: "GET", path: "/v1/accounts/other/media?deleted=true", status: 200,
			contains: []string{`"items":[]`},
		},
		{
			name: "preview", method: "POST", path: "/v1/accounts/acme/retention/preview",
			body:   `{"retention_seconds":{"voicemail":1},"at":"2099-01-01T00:00:00Z"}`,
			status: 200, contains: []string{`"items":0`}, // it is a prompt
		},
		{
			name: "reclaim", method: "GET", path: "/v1/reclaim", status: 200,
			contains: []string{`"deleted":{"items":0`},
		},
		{
			name: "quota", method: "PATCH", path: "/v1/accounts/acme", body: `{"quota":{"bytes":10}}`, status: 200,
		},
		{name: "too much", method: "PUT", path: "/media/acme/z", body: sound, status: 403, code: "quota_exceeded"},
	})
}
