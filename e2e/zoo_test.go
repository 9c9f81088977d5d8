package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A specimen is a client as it was seen in the wild: its requests, and how it sends them. A detail that no report
// mentions is what most clients do, and the row leaves it out.
type specimen struct {
	name string
	seen string // issues as repository#number, or the client's own source

	// One of these is how it becomes known, as JSON: the body of its registration, its metadata document, or its entry
	// in CLIENTS. HOST stands for the origin of the document, which is on this computer and not at its publisher's.
	registration, document, entry string

	finds    string // how it discovers: by the challenge if empty, at the "path", at the "root", or "without" 9728
	redirect string // one of its redirect_uris
	state    string
	scope    string // not sent if empty; the same for resource
	resource string // BASE stands for BASE_URL
	extra    url.Values
	auth     string // how it authenticates at /token; empty if it does not
	redeem   url.Values
	header   http.Header // sent with all requests; with an Origin it is a web page
	token    http.Header // sent with requests to /token

	path    string // path of the MCP endpoint; empty means /mcp
	version string // MCP revision. Few reports tell: elsewhere it is chosen so that each has its speakers.
	mcp     http.Header

	atOnce int             // refreshes with the same token at the same time; 0 means one
	again  []time.Duration // further refreshes, so long after the first
}

// Registrations that several rows share.
const (
	cursor = `{"client_name":"Cursor","redirect_uris":["cursor://anysphere.cursor-mcp/oauth/callback",
		"https://www.cursor.com/agents/mcp/oauth/callback","http://localhost:8787/callback"],
		"grant_types":["authorization_code","refresh_token"],"response_types":["code"],
		"token_endpoint_auth_method":"none"}`
	vscodeMembers = `"client_name":"Visual Studio Code","client_uri":"https://code.visualstudio.com",
		"grant_types":["authorization_code","refresh_token"],"response_types":["code"],
		"redirect_uris":["https://insiders.vscode.dev/redirect","https://vscode.dev/redirect","http://127.0.0.1/",
		"http://127.0.0.1:33418/"],"token_endpoint_auth_method":"none","application_type":"native"`
	chatGPTChoice = `{"client_id":"HOST/oauth/client.json","client_uri":"https://chatgpt.com/",
		"redirect_uris":["https://chatgpt.com/connector_platform_oauth_redirect"],
		"token_endpoint_auth_method":"private_key_jwt","token_endpoint_auth_methods_supported":["none","private_key_jwt"],
		"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"ChatGPT",
		"logo_uri":"https://persistent.oaistatic.com/sonic/misc/openai-logo.png",
		"token_endpoint_auth_signing_alg":"RS256","jwks_uri":"HOST/oauth/jwks.json"}`
)

// plain is a registration whose reports name only the redirect URI: the rest is what most clients send.
func plain(name, redirectURI, authMethod string) string {
	return `{"client_name":"` + name + `","redirect_uris":["` + redirectURI + `"],"response_types":["code"],` +
		`"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"` + authMethod + `"}`
}

var (
	httpx    = http.Header{"user-agent": {"python-httpx/0.28.1"}, "accept": {"*/*"}} // in lower case, as HTTP/2 has them
	charset  = http.Header{"Content-Type": {"application/x-www-form-urlencoded;charset=UTF-8"}}
	twoHands = []time.Duration{33 * time.Second, 76 * time.Second} // the bursts of claude-code#84440
)

var zoo = []specimen{
	{name: "Claude.ai, registered",
		seen: "claude-ai-mcp#82, #219, #1043 (post, user agent), #764 (headers), #124 (scope, the slash)",
		registration: `{"client_name":"Claude","redirect_uris":["https://claude.ai/api/mcp/auth_callback"],
			"grant_types":["authorization_code","refresh_token"],"response_types":["code"],
			"token_endpoint_auth_method":"client_secret_post","scope":"claudeai"}`,
		redirect: "https://claude.ai/api/mcp/auth_callback", state: "Y-nto_D7WTTRRvopM-XTEAgI3fcyf9FY9X9Wdm8G6dk",
		scope: "claudeai", auth: "client_secret_post", header: httpx, path: "/mcp/", version: "2025-11-25",
		atOnce: 2, again: twoHands}, // from two addresses, which is not to be seen on loopback
	{name: "Claude.ai, by document",
		seen: "claude-ai-mcp#650, #518 (the address), lion-reader#1519 (none). The other members are the usual ones.",
		document: `{"client_id":"HOST/oauth/mcp-oauth-client-metadata","client_name":"Claude",
			"client_uri":"https://claude.ai","redirect_uris":["https://claude.ai/api/mcp/auth_callback",
			"https://claude.com/api/mcp/auth_callback"],"grant_types":["authorization_code","refresh_token"],
			"response_types":["code"],"token_endpoint_auth_method":"none"}`,
		redirect: "https://claude.com/api/mcp/auth_callback", state: "s.with.dots", resource: "BASE/mcp",
		header: httpx, version: "2025-11-25"},
	{name: "Claude Code, registered",
		seen: "elmo#684 (captured), claude-code#7744, #10572 (scope, prompt, no resource)",
		registration: `{"client_name":"Claude Code","redirect_uris":["http://localhost:3118/callback"],
			"grant_types":["authorization_code","refresh_token"],"response_types":["code"],
			"token_endpoint_auth_method":"none","application_type":"native"}`,
		redirect: "http://localhost:3118/callback", state: "Y-nto_D7WTTRRvopM-XTEAgI3fcyf9FY9X9Wdm8G6dk",
		scope: "openid profile offline_access name", extra: url.Values{"prompt": {"consent"}}, token: charset,
		version: "2025-06-18"},
	{name: "Claude Code, by document", seen: "claude-code#37767, #84440, #42301, #44429",
		document: `{"client_id":"HOST/oauth/claude-code-client-metadata","client_name":"Claude Code",
			"client_uri":"https://claude.ai","redirect_uris":["http://localhost/callback","http://127.0.0.1/callback"],
			"grant_types":["authorization_code","refresh_token"],"response_types":["code"],
			"token_endpoint_auth_method":"none"}`,
		redirect: "http://localhost:58135/callback", state: "1", scope: "account:read repos:read", resource: "BASE/mcp",
		version: "2026-07-28", atOnce: 5}, // five processes with one keychain
	{name: "Cursor", seen: "fastmcp#2302, mcp-oauth#100, laravel/mcp#173", registration: cursor, state: "a",
		redirect: "cursor://anysphere.cursor-mcp/oauth/callback", resource: "BASE/mcp", version: "2025-06-18"},
	{name: "Cursor Agents, and Grok Bot", seen: "worldmonitor#8303, #8305", registration: cursor, state: "a",
		redirect: "https://www.cursor.com/agents/mcp/oauth/callback", resource: "BASE", version: "2025-06-18"},
	{name: "Cursor 3.14", seen: "elmo#684, tripsyapp/cli#8", registration: cursor, state: "a",
		redirect: "http://localhost:8787/callback", resource: "BASE/mcp", version: "2025-11-25"},
	{name: "VS Code, registered", seen: "kubernetes-mcp-server#258, microsoft/vscode src/vs/base/common/oauth.ts",
		registration: `{` + vscodeMembers + `,"scope":"account:read repos:read calendar:read"}`, finds: "path",
		redirect: "http://127.0.0.1:33418/", state: "q83v+/Dx8vP09fb3+Pn6+w==", resource: "BASE/mcp",
		scope: "account:read repos:read calendar:read offline_access", version: "2025-06-18"},
	{name: "VS Code, whose port is taken", seen: "vscode#278512", registration: `{` + vscodeMembers + `}`,
		redirect: "http://127.0.0.1:52011/", state: "q83v+/Dx8vP09fb3+Pn6+w==", resource: "BASE/mcp", finds: "path",
		version: "2025-11-25"},
	{name: "VS Code, through vscode.dev",
		seen:         "32; microsoft/vscode. The state is an address, and here as long as we allow.",
		registration: `{` + vscodeMembers + `}`, redirect: "https://vscode.dev/redirect", finds: "path",
		state:    "vscode://dynamicauthprovider/localhost?nonce=" + strings.Repeat("%2B&=;~", 139) + "AbCdef",
		resource: "BASE/mcp", version: "2025-11-25"},
	{name: "VS Code, by document", seen: "vscode#271403, copilot-cli#4901. The members are those that it registers.",
		document: `{"client_id":"HOST/oauth/client-metadata.json",` + vscodeMembers + `}`, finds: "path",
		redirect: "http://127.0.0.1:33418/", state: "q83v+/Dx8vP09fb3+Pn6+w==", resource: "BASE/mcp",
		scope: "repos:read account:read repos:read", version: "2026-07-28"},
	{name: "ChatGPT, registered", seen: "codex#24890, omi#8824, gbrain#894",
		registration: plain("ChatGPT", "https://chatgpt.com/connector/oauth/OUbdUMlL15Ct", "none"),
		redirect:     "https://chatgpt.com/connector/oauth/OUbdUMlL15Ct", state: "oauth_s_68d1", scope: "account:read",
		resource: "BASE/mcp?kb_name=X", version: "2025-06-18"},
	{name: "ChatGPT, registered with its fixed callback",
		seen:         "7, 15; android-remote-control-mcp#166, worldmonitor#8307",
		registration: plain("ChatGPT", "https://chatgpt.com/connector_platform_oauth_redirect", "none"),
		redirect:     "https://chatgpt.com/connector_platform_oauth_redirect", state: "oauth_s_68d1",
		scope: "account:read offline_access", resource: "BASE/mcp", version: "2025-11-25"},
	{name: "ChatGPT, by document, which signs", seen: "altinity-mcp#118, engram#1633",
		document: `{"client_id":"HOST/oauth/kDmjx77UnKOM/client.json","client_uri":"https://chatgpt.com/",
			"redirect_uris":["https://chatgpt.com/connector/oauth/kDmjx77UnKOM"],
			"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"ChatGPT",
			"token_endpoint_auth_method":"private_key_jwt","token_endpoint_auth_signing_alg":"RS256",
			"jwks_uri":"HOST/oauth/jwks.json"}`,
		redirect: "https://chatgpt.com/connector/oauth/kDmjx77UnKOM", state: "oauth_s_68d1", resource: "BASE/mcp",
		auth: "private_key_jwt", version: "2025-11-25"},
	{name: "ChatGPT, by document, which may sign, and does", seen: "django-oauth-toolkit#1845, operately#5164",
		document: chatGPTChoice, redirect: "https://chatgpt.com/connector_platform_oauth_redirect", state: "oauth_s_68d1",
		resource: "BASE/mcp", auth: "private_key_jwt", version: "2026-07-28"},
	{name: "ChatGPT, by document, which may sign, and does not", seen: "gamedevpl/www.gamedev.pl#641",
		document: chatGPTChoice, redirect: "https://chatgpt.com/connector_platform_oauth_redirect", state: "oauth_s_68d1",
		resource: "BASE/mcp", version: "2025-11-25"},
	{name: "Codex", finds: "without",
		seen: "codex#41836, #40885, #8835, elmo#684 (captured), codex#30460 (callback), #24890 (no resource)",
		registration: `{"client_name":"Codex","redirect_uris":["http://127.0.0.1:37819/callback/6MFBM1In3Ey-"],
			"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"none",
			"response_types":["code"],"application_type":"native"}`,
		redirect: "http://127.0.0.1:37819/callback/6MFBM1In3Ey-", state: "mVqGvWCHs1-HH4QF5nyv0g", version: "2025-06-18",
		scope: "account:read repos:read", atOnce: 5},
	{name: "Codex, which is given a secret", seen: "codex#40928: for post as well it sends Basic, and no client_id",
		registration: plain("Codex", "http://127.0.0.1:37819/callback/6MFBM1In3Ey-", "client_secret_post"),
		redirect:     "http://127.0.0.1:37819/callback/6MFBM1In3Ey-", state: "mVqGvWCHs1-HH4QF5nyv0g",
		auth: "client_secret_basic", version: "2025-11-25"},
	{name: "MCP Inspector in the browser", seen: "modelcontextprotocol/inspector client/src/lib/auth.ts",
		registration: `{"redirect_uris":["http://localhost:6274/oauth/callback",
			"http://localhost:6274/oauth/callback/debug"],"token_endpoint_auth_method":"none",
			"grant_types":["authorization_code","refresh_token"],
			"response_types":["code"],"client_name":"MCP Inspector",
			"client_uri":"https://github.com/modelcontextprotocol/inspector","scope":""}`,
		redirect: "http://localhost:6274/oauth/callback/debug", state: strings.Repeat("0a9f", 16), resource: "BASE/mcp",
		scope: "account:read repos:read calendar:read", header: http.Header{"Origin": {"http://localhost:6274"}},
		token: charset, version: "2025-06-18"},
	{name: "LM Studio", seen: "mcp-auth-proxy#173 (body, answer), lmstudio-bug-tracker#1893 (127.0.0.1)",
		registration: `{"client_name":"test","redirect_uris":["http://127.0.0.1:1234/callback"]}`,
		redirect:     "http://127.0.0.1:1234/callback", state: "a", resource: "BASE/mcp", version: "2025-06-18"},
	{name: "Smithery", seen: "jitsu#1430 (answer). Its redirect URI is not in the report.",
		registration: plain("Smithery", "https://smithery.example/oauth/callback", "client_secret_basic"),
		redirect:     "https://smithery.example/oauth/callback", state: "a", resource: "BASE/mcp",
		auth: "client_secret_basic", version: "2025-06-18"},
	{name: "Copilot Studio, registered",
		seen: "activepieces#14397, CIPP#278 (no scope), Teamwork/mcp#67 (host)",
		registration: plain("Copilot Studio", "https://global.consent.azure-apim.net/redirect/mcp-5f",
			"client_secret_basic"),
		redirect: "https://global.consent.azure-apim.net/redirect/mcp-5f", state: "a", auth: "client_secret_basic",
		version: "2025-06-18"},
	{name: "Copilot Studio, by the operator", seen: "activepieces#14397, vscode#282472, tableau-mcp#772",
		entry: `{"client_id":"copilot+studio:1","client_name":"Copilot Studio",
			"client_secret":"a+secret/of:32=characters&more%!",
			"redirect_uris":["https://global.consent.azure-apim.net/redirect/mcp-5f"]}`,
		redirect: "https://global.consent.azure-apim.net/redirect/mcp-5f", state: "a", auth: "client_secret_basic",
		version: "2025-06-18"},
	{name: "Gemini CLI", seen: "google-gemini/gemini-cli packages/core/src/mcp/oauth-provider.ts",
		registration: `{"client_name":"Gemini CLI MCP Client","redirect_uris":["http://localhost:7777/oauth/callback"],
			"grant_types":["authorization_code","refresh_token"],"response_types":["code"],
			"token_endpoint_auth_method":"none","scope":""}`,
		redirect: "http://localhost:7777/oauth/callback", state: "mVqGvWCHs1-HH4QF5nyv0g", resource: "BASE/mcp",
		token:   http.Header{"Accept": {"application/json, application/x-www-form-urlencoded"}},
		version: "2025-06-18"},
	{name: "opencode, registered", seen: "anomalyco/opencode packages/opencode/src/mcp/oauth-provider.ts",
		registration: `{"redirect_uris":["http://127.0.0.1:19876/mcp/oauth/callback"],"client_name":"OpenCode",
			"client_uri":"https://opencode.ai","grant_types":["authorization_code","refresh_token"],
			"response_types":["code"],"token_endpoint_auth_method":"none"}`,
		redirect: "http://127.0.0.1:19876/mcp/oauth/callback", state: strings.Repeat("0a9f", 16), resource: "BASE/mcp",
		token: charset, version: "2025-11-25"},
	{name: "opencode, by document", seen: "opencode#47737",
		document: `{"client_id":"HOST/oauth/opencode/client.json","client_name":"opencode",
			"client_uri":"https://opencode.ai","logo_uri":"https://opencode.ai/web-app-manifest-512x512.png",
			"application_type":"native","redirect_uris":["http://127.0.0.1/callback","http://localhost/callback"],
			"grant_types":["authorization_code","refresh_token"],"response_types":["code"],
			"token_endpoint_auth_method":"none","token_endpoint_auth_methods_supported":["none"]}`,
		redirect: "http://127.0.0.1:40123/callback", state: strings.Repeat("0a9f", 16), resource: "BASE/mcp",
		version: "2026-07-28"},
	{name: "Copilot CLI, registered",
		seen: "claude-code#84440, boardoil#11 (captured), copilot-cli#1951 (registers one port, uses another)",
		registration: `{"redirect_uris":["http://127.0.0.1:56679/"],"grant_types":["authorization_code","refresh_token"],
			"response_types":["code"],"token_endpoint_auth_method":"none","application_type":"native"}`,
		redirect: "http://127.0.0.1:60005/", state: "a", resource: "BASE/mcp", version: "2025-11-25", atOnce: 5},
	{name: "Copilot CLI, by document", seen: "claude-code#37767, copilot-cli#4793",
		document: `{"client_id":"HOST/copilot/cli/client-metadata.json","client_name":"GitHub Copilot CLI",
			"application_type":"native","redirect_uris":["http://127.0.0.1:33418/"]}`,
		redirect: "http://127.0.0.1:60005/", state: "a", resource: "BASE/mcp", version: "2025-11-25"},
	{name: "Grok, registered", seen: "agent-connector-for-wp#111, accounted#2158",
		registration: plain("Grok", "https://grok.com/connectors-oauth-exchange-code/", "none"), finds: "root",
		redirect: "https://grok.com/connectors-oauth-exchange-code/", state: "a", resource: "BASE/", version: "2025-06-18"},
	{name: "Grok, by document", seen: "worldmonitor#8307",
		document: `{"client_id":"HOST/oauth/mcp-client.json","client_name":"Grok","redirect_uris":[
			"https://grok.com/connectors-oauth-exchange-code/","https://console.x.ai/connectors-oauth-exchange-code/"]}`,
		redirect: "https://console.x.ai/connectors-oauth-exchange-code/", state: "a", resource: "BASE/mcp",
		version: "2025-11-25"},
	{name: "Mistral", seen: "odoo-mcp-pro#22 (Basic)",
		registration: plain("Le Chat", "https://callback.mistral.ai/v1/integrations_auth/oauth2_callback",
			"client_secret_basic"),
		redirect: "https://callback.mistral.ai/v1/integrations_auth/oauth2_callback", state: "a", resource: "BASE/mcp",
		auth: "client_secret_basic", version: "2025-06-18"},
	{name: "Perplexity", seen: "google_workspace_mcp#830, worldmonitor's table (redirect URI)",
		registration: plain("Perplexity", "https://www.perplexity.ai/rest/connections/oauth_callback", "none"),
		redirect:     "https://www.perplexity.ai/rest/connections/oauth_callback", state: "a", version: "2025-06-18"},
	{name: "Devin", seen: "worldmonitor's table (redirect URI)",
		registration: plain("Devin", "https://api.devin.ai/mcp/oauth/callback", "none"), resource: "BASE/mcp",
		redirect: "https://api.devin.ai/mcp/oauth/callback", state: "a", version: "2025-06-18"},
	{name: "Antigravity", seen: "worldmonitor's table (redirect URI)",
		registration: plain("Antigravity", "https://antigravity.google/oauth-callback", "none"), resource: "UPPER/mcp",
		redirect: "https://antigravity.google/oauth-callback", state: "a", version: "2025-06-18"},
	{name: "mcp-remote", seen: "punkpeye/mcp-remote src/lib/node-oauth-client-provider.ts, #106 (an old session)",
		registration: `{"redirect_uris":["http://localhost:3334/oauth/callback"],"token_endpoint_auth_method":"none",
			"grant_types":["authorization_code","refresh_token"],"response_types":["code"],
			"client_name":"MCP CLI Client","client_uri":"https://github.com/modelcontextprotocol/mcp-cli",
			"software_id":"2e6dc280-f3c3-4e01-99a7-8181dbd1d23d","software_version":"0.1.38",
			"scope":"openid email profile"}`,
		redirect: "http://localhost:3334/oauth/callback", state: "5b1c1c0e-6a0b-4b52-9d6f-0d3a4a6ad001",
		scope: "openid email profile", resource: "BASE/mcp", token: charset, version: "2025-06-18",
		mcp: http.Header{"Mcp-Session-Id": {"mcp-session-00000000-0000-4000-8000-000000000000"}}},
	{name: "A client of 2025-03-26", seen: "its specification; members that nothing obliges us to know, and nulls",
		registration: `{"client_name":"Old","redirect_uris":["http://127.0.0.1:9/callback"],"contacts":["a@example.com"],
			"client_uri":null,"logo_uri":"","scope":null,"jwks":null,"software_statement":null,"tos_uri":7}`,
		finds: "without", redirect: "http://127.0.0.1:9/callback", redeem: url.Values{"redirect_uri": {""}}, state: "a",
		version: "2025-03-26"},
}
