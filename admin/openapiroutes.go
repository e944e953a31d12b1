package admin

import (
	"net/http"
	"slices"

	"carillon/library"
	"carillon/library/backup"
	"carillon/library/export"
	"carillon/library/restore"
	"carillon/library/spool"
	"carillon/library/webhook"
)

// operations are all routes, grouped as the files that serve them.
func operations() []operation {
	return slices.Concat(mediaOperations(), editOperations(), nameOperations(), playlistOperations(),
		recordingOperations(), feedOperations(), clusterOperations(), backupOperations())
}

const (
	putQuery = "name description language prompt_id media_source source_id source_type class " +
		"tts_text tts_voice streamable"
	pageQuery = "after limit"
)

func mediaOperations() []operation {
	const item, items = "/v1/accounts/{account}/media/{id}", "/v1/accounts/{account}/media"
	document := library.Document{}
	return []operation{
		{
			method: http.MethodPut, path: "/media/{account}/{id}",
			summary: "Store sound: 201, 200 in place of another, 202 if it waits for a majority",
			query:   putQuery, inType: sound, out: document, status: http.StatusCreated,
			also: []int{http.StatusOK, http.StatusAccepted}, conditions: bothConditions,
		},
		{
			method: http.MethodPost, path: "/media/{account}/{id}", query: putQuery, inType: "multipart/form-data",
			summary: "The same, of the one file in a form", out: document, status: http.StatusCreated,
			also: []int{http.StatusOK, http.StatusAccepted}, conditions: bothConditions,
		},
		{
			method: http.MethodDelete, path: "/media/{account}/{id}", summary: "Delete an item", query: "hard",
			status: http.StatusNoContent, conditions: onlyIfMatch,
		},
		{
			method: http.MethodGet, path: "/media/{account}/{id}", query: "rate channels gain from stream consistency",
			summary: "Play an item, or a recording; .wav, .mp3, .raw … make other forms of it",
			outType: sound, open: true,
		},
		{
			method: http.MethodGet, path: "/play/{token}/{name}", summary: "Play what a lookup found", outType: sound,
			query: "rate channels gain", open: true,
		},
		{
			method: http.MethodGet, path: items, summary: "List items", out: library.Page{},
			query: "prefix after limit language prompt name class deleted",
		},
		{
			method: http.MethodGet, path: item, summary: "What is known of an item", query: "consistency",
			out: document,
		},
		{
			method: http.MethodPatch, path: item, summary: "Change it", in: library.Patch{}, out: document,
			conditions: onlyIfMatch,
		},
		{
			method: http.MethodDelete, path: item, summary: "Delete an item", query: "hard",
			status: http.StatusNoContent, conditions: onlyIfMatch,
		},
		{
			method: http.MethodGet, path: item + "/verify", out: verified{},
			summary: "Let every node read and hash its copy of the item",
		},
		{
			method: http.MethodGet, path: item + "/uses", out: library.Uses{},
			summary: "Second names, playlists, prompts and accounts that lead to the item",
		},
	}
}

func editOperations() []operation {
	document := library.Document{}
	return []operation{
		{
			method: http.MethodPost, path: "/v1/media/join", summary: "Join sounds", in: library.JoinRequest{},
			out: document, status: http.StatusCreated,
			also: []int{http.StatusOK}, conditions: bothConditions,
		},
		{
			method: http.MethodPost, path: "/v1/media/trim", summary: "Trim sound", in: library.TrimRequest{},
			out: document, status: http.StatusCreated,
			also: []int{http.StatusOK}, conditions: bothConditions,
		},
		{
			method: http.MethodGet, path: "/v1/media/silence", summary: "Find silence",
			query: "account id recording_id threshold_db minimum_ms", out: library.SilenceAnswer{},
		},
		{
			method: http.MethodGet, path: "/v1/spool", summary: "What waits on this node for a majority",
			out: listOf[spool.Entry]{},
		},
		{
			method: http.MethodGet, path: "/v1/spool/{id}", summary: "What became of one of them",
			out: spool.Entry{},
		},
	}
}

func nameOperations() []operation {
	const account = "/v1/accounts/{account}"
	document, settings := library.Document{}, library.AccountSettings{}
	copied := func(path, summary string, in any, c conditions) operation {
		return operation{
			method: http.MethodPost, path: path, summary: summary, in: in, out: document, status: http.StatusCreated,
			conditions: c,
		}
	}
	return []operation{
		{
			method: http.MethodGet, path: "/v1/lookup", summary: "Where a media name is played", out: library.Lookup{},
			query: "name account language stream protocol player consistency",
		},
		{
			method: http.MethodPost, path: "/v1/lookup", summary: "Many lookups at once",
			in: manyLookups{}, out: listOf[oneFound]{},
		},
		copied("/v1/media/copy", "Copy an item; no bytes move", library.CopyRequest{}, bothConditions),
		copied("/v1/media/rename", "Give an item another name", library.CopyRequest{}, bothConditions),
		copied("/v1/media/alias", "Give an item a second name", library.AliasRequest{}, noConditions),
		copied("/v1/media/undelete", "Bring a deleted item back", library.UndeleteRequest{}, noConditions),
		{
			method: http.MethodGet, path: "/v1/accounts", query: pageQuery,
			summary: "List accounts that have media or settings",
			out:     listOf[library.AccountSettings]{},
		},
		{method: http.MethodGet, path: account, summary: "Settings of an account", out: settings},
		{
			method: http.MethodPut, path: account, summary: "Replace them", in: settings, out: settings,
			conditions: onlyIfMatch,
		},
		{
			method: http.MethodPatch, path: account, summary: "Change some of them", in: settings, out: settings,
			conditions: onlyIfMatch,
		},
		{
			method: http.MethodDelete, path: account, summary: "Forget them", status: http.StatusNoContent,
			conditions: onlyIfMatch,
		},
		{
			method: http.MethodGet, path: account + "/usage", summary: "What an account stores",
			out: library.AccountUsage{},
		},
		{
			method: http.MethodGet, path: account + "/prompts", summary: "List prompts",
			query: "prefix after limit language missing", out: library.PromptPage{},
		},
		{
			method: http.MethodGet, path: account + "/languages", summary: "Languages of an account's prompts",
			out: listOf[library.LanguageCount]{},
		},
		{
			method: http.MethodPost, path: account + "/retention/preview", summary: "What a retention would delete",
			in: library.ExpiryQuery{}, out: library.Expiry{},
		},
		{
			method: http.MethodGet, path: "/v1/reclaim", summary: "What was deleted and still takes room",
			out: library.Reaped{},
		},
	}
}

func playlistOperations() []operation {
	const playlists = "/v1/accounts/{account}/playlists"
	return []operation{
		{
			method: http.MethodGet, path: playlists, summary: "List playlists", query: pageQuery,
			out: listOf[library.Playlist]{},
		},
		{method: http.MethodGet, path: playlists + "/{id}", summary: "A playlist", out: library.Playlist{}},
		{
			method: http.MethodPut, path: playlists + "/{id}", summary: "Make or replace a playlist",
			in: library.Playlist{}, out: library.Playlist{}, also: []int{http.StatusCreated},
			conditions: bothConditions,
		},
		{
			method: http.MethodDelete, path: playlists + "/{id}", summary: "Delete a playlist",
			status: http.StatusNoContent, conditions: onlyIfMatch,
		},
	}
}

func recordingOperations() []operation {
	const one = "/v1/recordings/{id}"
	audio := func(method, path, inType string) operation {
		return operation{
			method: method, path: path, summary: "Bring the sound of a recording as a file", inType: inType,
			out: recordingView{}, status: http.StatusCreated, also: []int{http.StatusOK, http.StatusAccepted},
		}
	}
	const form = "multipart/form-data"
	return []operation{
		{
			method: http.MethodPost, path: "/v1/recordings", summary: "Make a ticket for one recording",
			in: library.RecordingRequest{}, out: recordingView{}, status: http.StatusCreated,
		},
		{
			method: http.MethodGet, path: "/v1/recordings", summary: "List recordings", query: "account after limit",
			out: listOf[recordingView]{},
		},
		{method: http.MethodGet, path: one, summary: "A recording and how it goes", out: recordingView{}},
		{
			method: http.MethodPost, path: one + "/store", summary: "Make it an item; with a url: send it there (202)",
			in: storeRequest{}, out: library.Document{}, also: []int{http.StatusAccepted}, accepted: export.Order{},
			conditions: bothConditions,
		},
		{
			method: http.MethodPost, path: one + "/rerecord",
			summary: "Make a ticket for another take; the old one stays until that has sound",
			out:     recordingView{}, status: http.StatusCreated,
		},
		{method: http.MethodPost, path: one + "/discard", summary: "End and free it", status: http.StatusNoContent},
		{
			method: http.MethodGet, path: one + "/silence", summary: "Find silence in it",
			query: "threshold_db minimum_ms", out: library.SilenceAnswer{},
		},
		audio(http.MethodPut, one+"/audio", sound),
		audio(http.MethodPut, one+"/audio/{name}", sound),
		audio(http.MethodPost, one+"/audio", form),
		audio(http.MethodPost, one+"/audio/{name}", form),
		{
			method: http.MethodGet, path: "/v1/exports", summary: "List exports", query: "account state after limit",
			out: listOf[export.Order]{},
		},
		{
			method: http.MethodPost, path: "/v1/exports", in: library.ItemExport{}, out: export.Order{},
			summary: "Send an item's sound to a URL, or without one to where the account's recordings go",
			status:  http.StatusAccepted, conditions: onlyIfMatch,
		},
		{method: http.MethodGet, path: "/v1/exports/{id}", summary: "An export", out: export.Order{}},
		{
			method: http.MethodPost, path: "/v1/exports/{id}/retry", summary: "Try it again now",
			out: export.Order{},
		},
		{
			method: http.MethodDelete, path: "/v1/exports/{id}", summary: "Give it up", status: http.StatusNoContent,
		},
	}
}

func feedOperations() []operation {
	const hook = "/v1/webhooks/{id}"
	return []operation{
		{
			method: http.MethodGet, path: "/v1/events", query: "after account kind follow",
			summary: "Follow what happens: server-sent events, resumed with Last-Event-ID at any node",
			outType: "text/event-stream",
		},
		{
			method: http.MethodGet, path: "/v1/webhooks", summary: "List webhooks and how they do",
			out: listOf[webhook.Status]{},
		},
		{method: http.MethodGet, path: hook, summary: "A webhook", out: webhook.Status{}},
		{
			method: http.MethodPut, path: hook, summary: "Make or change a webhook", in: webhook.Request{},
			out: webhook.Status{}, also: []int{http.StatusCreated},
		},
		{
			method: http.MethodPost, path: hook + "/test", summary: "Try a delivery without events",
			out: webhook.Trial{},
		},
		{method: http.MethodDelete, path: hook, summary: "Remove a webhook", status: http.StatusNoContent},
	}
}

func clusterOperations() []operation {
	const node, recovery = "/v1/cluster/nodes/{id}", "/v1/cluster/groups/{group}/recovery"
	object := map[string]any{}
	return []operation{
		{
			method: http.MethodGet, path: "/v1/cluster", out: object,
			summary: "Whether all nodes have the same, where it is, how long the disks last",
		},
		{method: http.MethodGet, path: node, summary: "How far a node is with what is wanted of it", out: object},
		{
			method: http.MethodDelete, path: node, summary: "Take a node out for ever", out: object,
			status: http.StatusAccepted,
		},
		{
			method: http.MethodPost, path: node + "/drain", summary: "Let the others take over all it holds",
			out: object, status: http.StatusAccepted,
		},
		{
			method: http.MethodPost, path: node + "/undrain", summary: "Give it its share again", out: object,
			status: http.StatusAccepted,
		},
		{
			method: http.MethodGet, path: recovery, query: "node", out: object,
			summary: "What is known of a blob group that may have lost its majority",
		},
		{
			method: http.MethodPost, path: recovery, in: RecoverGroupRequest{}, out: object,
			status: http.StatusAccepted, summary: "Go on with what one node has of it, giving the lost nodes up",
		},
		{method: http.MethodGet, path: "/v1/version", summary: "Which build answers", out: Version{}},
		{method: http.MethodGet, path: "/v1/openapi.json", summary: "This document", out: object},
		{method: http.MethodGet, path: "/healthz", summary: "Does the process answer?", out: health{}, open: true},
		{method: http.MethodGet, path: "/readyz", summary: "May traffic come?", out: health{}, open: true},
		{
			method: http.MethodGet, path: "/metrics", summary: "Metrics for Prometheus", outType: "text/plain",
			open: true,
		},
	}
}

func backupOperations() []operation {
	const stream = "application/octet-stream"
	return []operation{
		{method: http.MethodPost, path: "/v1/backup", summary: "Hold what is there", out: backup.Hold{}},
		{method: http.MethodPost, path: "/v1/backup/{hold}", summary: "Hold it longer", out: backup.Hold{}},
		{
			method: http.MethodDelete, path: "/v1/backup/{hold}", summary: "Let it go", status: http.StatusNoContent,
		},
		{
			method: http.MethodGet, path: "/v1/backup", summary: "The catalog from one view, a row a line",
			query: "since", outType: "application/x-ndjson",
		},
		{
			method: http.MethodGet, path: "/v1/backup/blobs/{id}", summary: "The bytes of a blob", query: "offset",
			outType: stream,
		},
		{
			method: http.MethodPost, path: "/v1/restore", summary: "Begin or go on with a restore",
			in: map[string]any{}, out: restore.Begun{},
		},
		{
			method: http.MethodDelete, path: "/v1/restore", summary: "Say that all is restored",
			status: http.StatusNoContent,
		},
		{
			method: http.MethodPut, path: "/v1/restore/blobs/{id}", summary: "Bring a blob back", inType: stream,
			status: http.StatusCreated,
		},
		{
			method: http.MethodPost, path: "/v1/restore/rows", summary: "Bring rows back", in: map[string]any{},
			out: restore.Report{},
		},
	}
}
