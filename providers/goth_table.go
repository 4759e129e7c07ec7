package providers

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/markbates/goth"
	"github.com/markbates/goth/providers/amazon"
	"github.com/markbates/goth/providers/auth0"
	"github.com/markbates/goth/providers/azureadv2"
	"github.com/markbates/goth/providers/bitbucket"
	"github.com/markbates/goth/providers/box"
	"github.com/markbates/goth/providers/cloudfoundry"
	"github.com/markbates/goth/providers/cognito"
	"github.com/markbates/goth/providers/dailymotion"
	"github.com/markbates/goth/providers/digitalocean"
	"github.com/markbates/goth/providers/discord"
	"github.com/markbates/goth/providers/dropbox"
	"github.com/markbates/goth/providers/facebook"
	"github.com/markbates/goth/providers/fitbit"
	"github.com/markbates/goth/providers/gitea"
	"github.com/markbates/goth/providers/gitlab"
	"github.com/markbates/goth/providers/heroku"
	"github.com/markbates/goth/providers/kakao"
	"github.com/markbates/goth/providers/line"
	"github.com/markbates/goth/providers/mastodon"
	"github.com/markbates/goth/providers/naver"
	"github.com/markbates/goth/providers/nextcloud"
	"github.com/markbates/goth/providers/okta"
	"github.com/markbates/goth/providers/patreon"
	"github.com/markbates/goth/providers/salesforce"
	"github.com/markbates/goth/providers/spotify"
	"github.com/markbates/goth/providers/strava"
	"github.com/markbates/goth/providers/twitch"
	"github.com/markbates/goth/providers/vk"
	"github.com/markbates/goth/providers/yahoo"
	"github.com/markbates/goth/providers/yandex"
	"github.com/markbates/goth/providers/zoom"
	"golang.org/x/oauth2"
)

// gothProvider is what has to be known of one of goth's providers.
type gothProvider struct {
	// create makes goth's provider.
	create func(gothSettings) goth.Provider
	// url is where people read about it, where is where it hands out credentials.
	url, where string

	// host is the option that says whose server it is, and base the server without it. The
	// endpoints are paths below it, or URLs. An empty profile means that goth asks for more
	// than one document, or for one whose URL the token answer names.
	host                          gothHost
	base                          string
	authorization, token, profile string

	// scope is what is asked for: whatever is enough for id and name.
	scope []string
	// commas stand between scopes, not spaces.
	commas bool
	// style is how the client authenticates (RFC 6749, 2.3.1). To find it out costs a second
	// request with the same code, so it is left open only where the operator decides.
	style oauth2.AuthStyle
	// session is what goth's session has to know besides the access token.
	session func(*oauth2.Token, gothSettings) (map[string]string, error)

	// id of a user, where it is not UserID; names, where there are more than a display name.
	id    func(goth.User) string
	names func(goth.User) (name, username string)
	// userInfo: the profile is the UserInfo of OpenID Connect, and its id the subject.
	userInfo bool
}

// gothHost is an option.
type gothHost int

const (
	hostFixed gothHost = iota
	hostBaseURL
	hostDomain
	hostTenant
)

// gothAliases are other names for the same: goth's microsoftonline asks the same of the
// same servers as azureadv2, which can also be limited to a tenant.
var gothAliases = map[string]string{"microsoft": "azureadv2", "microsoftonline": "azureadv2", "forgejo": "gitea"}

// usual is a provider whose constructor has goth's usual form.
func usual[P goth.Provider](create func(id, secret, callback string, scopes ...string) P, client func(P) **http.Client) func(gothSettings) goth.Provider {
	return func(s gothSettings) goth.Provider {
		p := create(s.clientID, s.clientSecret, s.callback, s.scope...)
		*client(p) = s.client
		return p
	}
}

// nickName is for providers that give a display name and, as NickName, a user name.
func nickName(u goth.User) (name, username string) { return strings.TrimSpace(u.Name), u.NickName }

// raw finds a text in the profile as the provider sent it.
func raw(u goth.User, path ...string) string {
	var value any = u.RawData
	for _, name := range path {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	s, _ := value.(string)
	return s
}

// gothProviders is the whole list. None has to be exempted from PKCE: a server that does
// not know it ignores the parameters (RFC 6749, 3.1 and 3.2).
var gothProviders = map[string]gothProvider{
	"amazon": {
		create: usual(amazon.New, func(p *amazon.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://www.amazon.com", where: "at https://developer.amazon.com (Login with Amazon)",
		authorization: "https://www.amazon.com/ap/oa", token: "https://api.amazon.com/auth/o2/token", profile: "https://api.amazon.com/user/profile",
		scope: []string{"profile"}, style: oauth2.AuthStyleInParams,
	},
	"auth0": {
		create: func(s gothSettings) goth.Provider {
			p := auth0.New(s.clientID, s.clientSecret, s.callback, s.domain, s.scope...)
			p.HTTPClient = s.client
			return p
		},
		where: "in the dashboard of the tenant (Applications)",
		host:  hostDomain, authorization: "/authorize", token: "/oauth/token", profile: "/userinfo",
		scope: []string{"openid", "profile"}, style: oauth2.AuthStyleAutoDetect, userInfo: true,
	},
	"azureadv2": {
		create: func(s gothSettings) goth.Provider {
			o := azureadv2.ProviderOptions{Tenant: azureadv2.TenantType(s.tenant)}
			for _, scope := range s.scope {
				o.Scopes = append(o.Scopes, azureadv2.ScopeType(scope))
			}
			p := azureadv2.New(s.clientID, s.clientSecret, s.callback, o)
			p.HTTPClient = s.client
			return p
		},
		url: "https://www.microsoft.com", where: "at https://entra.microsoft.com (App registrations)",
		host: hostTenant, base: "https://login.microsoftonline.com",
		authorization: "/oauth2/v2.0/authorize", token: "/oauth2/v2.0/token", profile: "https://graph.microsoft.com/v1.0/me",
		scope: []string{"openid", "User.Read"}, style: oauth2.AuthStyleInParams,
	},
	"bitbucket": {
		create: usual(bitbucket.New, func(p *bitbucket.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://bitbucket.org", where: "at Bitbucket (Workspace settings, OAuth consumers)",
		authorization: "https://bitbucket.org/site/oauth2/authorize", token: "https://bitbucket.org/site/oauth2/access_token",
		// goth gives up when it cannot read an address.
		scope: []string{"account", "email"}, style: oauth2.AuthStyleInHeader, names: nickName,
	},
	"box": {
		create: usual(box.New, func(p *box.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://www.box.com", where: "at https://app.box.com/developers/console",
		authorization: "https://app.box.com/api/oauth2/authorize", token: "https://app.box.com/api/oauth2/token", profile: "https://api.box.com/2.0/users/me",
		style: oauth2.AuthStyleInParams,
	},
	"cloudfoundry": {
		create: func(s gothSettings) goth.Provider {
			p := cloudfoundry.New(s.base, s.clientID, s.clientSecret, s.callback, s.scope...)
			p.HTTPClient = s.client
			return p
		},
		where: "at the UAA server",
		host:  hostBaseURL, authorization: "/oauth/authorize", token: "/oauth/token", profile: "/userinfo",
		scope: []string{"openid"}, style: oauth2.AuthStyleInHeader, userInfo: true,
	},
	"cognito": {
		create: func(s gothSettings) goth.Provider {
			p := cognito.NewCustomisedURL(s.clientID, s.clientSecret, s.callback, s.authorizationURL, s.tokenURL, s.base, s.profileURL, s.scope...)
			p.HTTPClient = s.client
			return p
		},
		where: "in the AWS console (Cognito, app clients)",
		host:  hostBaseURL, authorization: "/oauth2/authorize", token: "/oauth2/token", profile: "/oauth2/userInfo",
		scope: []string{"openid", "profile"}, style: oauth2.AuthStyleInHeader, userInfo: true,
	},
	"dailymotion": {
		create: usual(dailymotion.New, func(p *dailymotion.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://www.dailymotion.com", where: "at https://www.dailymotion.com/partner (API keys)",
		authorization: "https://www.dailymotion.com/oauth/authorize", token: "https://www.dailymotion.com/oauth/token", profile: "https://api.dailymotion.com/me",
		style: oauth2.AuthStyleInParams, names: func(u goth.User) (name, username string) { return raw(u, "screenname"), u.NickName },
	},
	"digitalocean": {
		create: usual(digitalocean.New, func(p *digitalocean.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://www.digitalocean.com", where: "at https://cloud.digitalocean.com/account/api/applications",
		authorization: "https://cloud.digitalocean.com/v1/oauth/authorize", token: "https://cloud.digitalocean.com/v1/oauth/token", profile: "https://api.digitalocean.com/v2/account",
		scope: []string{"read"}, style: oauth2.AuthStyleInParams,
		names: func(u goth.User) (name, username string) { return raw(u, "account", "name"), "" },
	},
	"discord": {
		create: usual(discord.New, func(p *discord.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://discord.com", where: "at https://discord.com/developers/applications",
		authorization: "https://discord.com/api/oauth2/authorize", token: "https://discord.com/api/oauth2/token", profile: "https://discord.com/api/users/@me",
		scope: []string{"identify"}, style: oauth2.AuthStyleInParams,
		names: func(u goth.User) (name, username string) { return raw(u, "global_name"), u.Name },
	},
	"dropbox": {
		create: usual(dropbox.New, func(p *dropbox.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://www.dropbox.com", where: "at https://www.dropbox.com/developers/apps",
		authorization: "https://www.dropbox.com/oauth2/authorize", token: "https://api.dropbox.com/oauth2/token", profile: "https://api.dropbox.com/2/users/get_current_account",
		style: oauth2.AuthStyleInParams, names: func(u goth.User) (name, username string) { return u.Name, "" }, // NickName is the address
	},
	"facebook": {
		create: func(s gothSettings) goth.Provider {
			p := facebook.New(s.clientID, s.clientSecret, s.callback, s.scope...)
			p.HTTPClient = s.client
			p.Fields = "id,name"
			return p
		},
		url: "https://www.facebook.com", where: "at https://developers.facebook.com/apps",
		authorization: "https://www.facebook.com/dialog/oauth", token: "https://graph.facebook.com/oauth/access_token", profile: "https://graph.facebook.com/me",
		scope: []string{"public_profile"}, style: oauth2.AuthStyleInParams,
	},
	"fitbit": {
		create: usual(fitbit.New, func(p *fitbit.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://www.fitbit.com", where: "at https://dev.fitbit.com/apps",
		authorization: "https://www.fitbit.com/oauth2/authorize", token: "https://api.fitbit.com/oauth2/token", profile: "https://api.fitbit.com/1/user/-/profile.json",
		scope: []string{"profile"}, style: oauth2.AuthStyleInHeader,
		session: func(t *oauth2.Token, _ gothSettings) (map[string]string, error) {
			id, _ := t.Extra("user_id").(string)
			return map[string]string{"UserID": id}, nil
		},
	},
	"gitea": {
		create: usual(gitea.New, func(p *gitea.Provider) **http.Client { return &p.HTTPClient }),
		where:  "at the server (Settings, Applications)",
		host:   hostBaseURL, authorization: "/login/oauth/authorize", token: "/login/oauth/access_token", profile: "/api/v1/user",
		scope: []string{"read:user"}, style: oauth2.AuthStyleInParams, names: nickName,
	},
	"gitlab": {
		create: usual(gitlab.New, func(p *gitlab.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://gitlab.com", where: "at GitLab (Preferences, Applications)",
		// goth still asks version 3 of the API, which is gone.
		host: hostBaseURL, base: "https://gitlab.com", authorization: "/oauth/authorize", token: "/oauth/token", profile: "/api/v4/user",
		scope: []string{"read_user"}, style: oauth2.AuthStyleInParams, names: nickName, userInfo: true,
	},
	"heroku": {
		create: usual(heroku.New, func(p *heroku.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://www.heroku.com", where: "at https://dashboard.heroku.com/account/applications",
		authorization: "https://id.heroku.com/oauth/authorize", token: "https://id.heroku.com/oauth/token", profile: "https://api.heroku.com/account",
		scope: []string{"identity"}, style: oauth2.AuthStyleInParams,
	},
	"kakao": {
		create: usual(kakao.New, func(p *kakao.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://www.kakaocorp.com", where: "at https://developers.kakao.com",
		authorization: "https://kauth.kakao.com/oauth/authorize", token: "https://kauth.kakao.com/oauth/token", profile: "https://kapi.kakao.com/v2/user/me",
		style: oauth2.AuthStyleInParams,
	},
	"line": {
		create: usual(line.New, func(p *line.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://line.me", where: "at https://developers.line.biz/console",
		authorization: "https://access.line.me/oauth2/v2.1/authorize", token: "https://api.line.me/oauth2/v2.1/token", profile: "https://api.line.me/v2/profile",
		scope: []string{"profile", "openid"}, style: oauth2.AuthStyleInParams, userInfo: true,
	},
	"mastodon": {
		create: usual(mastodon.New, func(p *mastodon.Provider) **http.Client { return &p.HTTPClient }),
		where:  "at the instance (Preferences, Development)",
		// An id is good at one instance, and so is a registration.
		host: hostBaseURL, authorization: "/oauth/authorize", token: "/oauth/token", profile: "/api/v1/accounts/verify_credentials",
		scope: []string{"read:accounts"}, style: oauth2.AuthStyleInParams, names: nickName,
	},
	"naver": {
		create: func(s gothSettings) goth.Provider {
			p := naver.New(s.clientID, s.clientSecret, s.callback)
			p.HTTPClient = s.client
			return p
		},
		url: "https://www.naver.com", where: "at https://developers.naver.com/apps",
		authorization: "https://nid.naver.com/oauth2.0/authorize", token: "https://nid.naver.com/oauth2.0/token", profile: "https://openapi.naver.com/v1/nid/me",
		style: oauth2.AuthStyleInParams,
	},
	"nextcloud": {
		create: func(s gothSettings) goth.Provider {
			p := nextcloud.NewCustomisedURL(s.clientID, s.clientSecret, s.callback, s.authorizationURL, s.tokenURL, s.profileURL+"?format=json", s.scope...)
			p.HTTPClient = s.client
			return p
		},
		where: "at the server (Administration settings, Security, OAuth 2.0 clients)",
		host:  hostBaseURL, authorization: "/apps/oauth2/authorize", token: "/apps/oauth2/api/v1/token", profile: "/ocs/v2.php/cloud/user",
		style: oauth2.AuthStyleInParams,
	},
	"okta": {
		create: func(s gothSettings) goth.Provider {
			p := okta.NewCustomisedURL(s.clientID, s.clientSecret, s.callback, s.authorizationURL, s.tokenURL, s.base, s.profileURL, s.scope...)
			p.HTTPClient = s.client
			return p
		},
		where: "in the admin console (Applications)",
		host:  hostBaseURL, authorization: "/oauth2/default/v1/authorize", token: "/oauth2/default/v1/token", profile: "/oauth2/default/v1/userinfo",
		scope: []string{"openid", "profile"}, style: oauth2.AuthStyleAutoDetect, userInfo: true,
	},
	"patreon": {
		create: usual(patreon.New, func(p *patreon.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://www.patreon.com", where: "at https://www.patreon.com/portal/registration/register-clients",
		authorization: "https://www.patreon.com/oauth2/authorize", token: "https://www.patreon.com/api/oauth2/token", profile: "https://www.patreon.com/api/oauth2/v2/identity",
		scope: []string{"identity"}, style: oauth2.AuthStyleInParams, names: nickName,
	},
	"salesforce": {
		create: usual(salesforce.New, func(p *salesforce.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://www.salesforce.com", where: "at Salesforce (Setup, App Manager)",
		host: hostBaseURL, base: "https://login.salesforce.com", authorization: "/services/oauth2/authorize", token: "/services/oauth2/token",
		scope: []string{"id"}, style: oauth2.AuthStyleInParams, session: salesforceSession,
		// A user id is that of one organization, and copies of an organization share it.
		id: func(u goth.User) string {
			organization := raw(u, "organization_id")
			if organization == "" || u.UserID == "" {
				return ""
			}
			return organization + "/" + u.UserID
		},
	},
	"spotify": {
		create: usual(spotify.New, func(p *spotify.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://www.spotify.com", where: "at https://developer.spotify.com/dashboard",
		authorization: "https://accounts.spotify.com/authorize", token: "https://accounts.spotify.com/api/token", profile: "https://api.spotify.com/v1/me",
		style: oauth2.AuthStyleInHeader,
	},
	"strava": {
		create: usual(strava.New, func(p *strava.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://www.strava.com", where: "at https://www.strava.com/settings/api",
		authorization: "https://www.strava.com/oauth/authorize", token: "https://www.strava.com/oauth/token", profile: "https://www.strava.com/api/v3/athlete",
		scope: []string{"read"}, commas: true, style: oauth2.AuthStyleInParams, names: nickName,
	},
	"twitch": {
		create: usual(twitch.New, func(p *twitch.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://www.twitch.tv", where: "at https://dev.twitch.tv/console/apps",
		authorization: "https://id.twitch.tv/oauth2/authorize", token: "https://id.twitch.tv/oauth2/token", profile: "https://api.twitch.tv/helix/users",
		style: oauth2.AuthStyleInParams, names: func(u goth.User) (name, username string) { return u.NickName, u.Name },
	},
	"vk": {
		create: usual(vk.New, func(p *vk.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://vk.com", where: "at https://dev.vk.com",
		authorization: "https://oauth.vk.com/authorize", token: "https://oauth.vk.com/access_token", profile: "https://api.vk.com/method/users.get",
		style: oauth2.AuthStyleInParams,
	},
	"yahoo": {
		create: usual(yahoo.New, func(p *yahoo.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://www.yahoo.com", where: "at https://developer.yahoo.com/apps",
		authorization: "https://api.login.yahoo.com/oauth2/request_auth", token: "https://api.login.yahoo.com/oauth2/get_token", profile: "https://api.login.yahoo.com/openid/v1/userinfo",
		scope: []string{"openid", "profile"}, style: oauth2.AuthStyleInHeader, userInfo: true,
	},
	"yandex": {
		create: usual(yandex.New, func(p *yandex.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://yandex.com", where: "at https://oauth.yandex.com",
		authorization: "https://oauth.yandex.ru/authorize", token: "https://oauth.yandex.com/token", profile: "https://login.yandex.ru/info",
		scope: []string{"login:info"}, style: oauth2.AuthStyleInParams, names: nickName,
	},
	"zoom": {
		create: usual(zoom.New, func(p *zoom.Provider) **http.Client { return &p.HTTPClient }),
		url:    "https://zoom.us", where: "at https://marketplace.zoom.us",
		// goth asks zoom.us; the API is at a host of its own.
		authorization: "https://zoom.us/oauth/authorize", token: "https://zoom.us/oauth/token", profile: "https://api.zoom.us/v2/users/me",
		style: oauth2.AuthStyleInHeader,
	},
}

// salesforceSession hands on where the token answer says that the profile is. The access
// token goes there, so it has to be the server that issued it, or Salesforce.
func salesforceSession(t *oauth2.Token, s gothSettings) (map[string]string, error) {
	id, _ := t.Extra("id").(string)
	at, err := url.Parse(id)
	issuer, _ := url.Parse(s.tokenURL)
	if err != nil || issuer == nil || at.Host == "" ||
		!(at.Scheme == issuer.Scheme && at.Host == issuer.Host) &&
			!(at.Scheme == "https" && strings.HasSuffix(at.Host, ".salesforce.com")) {
		return nil, errors.New("token endpoint: the id is not the URL of a profile at Salesforce")
	}
	return map[string]string{"ID": id}, nil
}

// leftOut says why one of goth's providers is not offered, and what can be done.
type leftOut struct{ why, instead string }

// gothLeftOut are those.
var gothLeftOut = map[string]leftOut{
	// Ids that are not somebody's for ever.
	"azuread":   {"its id is an address, and its API (graph.windows.net) is gone", "write goth:azureadv2"},
	"bitly":     {"goth reads no id", noOther},
	"onedrive":  {"its id is an address, and its API is gone", "write goth:azureadv2"},
	"slack":     {"goth's is for classic apps, and the id is that of one workspace", "write oidc, with the issuer https://slack.com"},
	"classlink": {"its id is a number, which may be that of one tenant", noOther},
	"shopify":   {"the id is that of a shop", noOther},
	"stripe":    {"the id is that of a company", noOther},
	"xero":      {"the id is that of a company", "write oidc, with the issuer https://identity.xero.com"},
	"yammer":    {"goth rounds the id", "write goth:azureadv2"},

	// Requests that do not go our way, or with secrets where logs are.
	"hubspot":  {"the profile is asked for with the token in the path of a URL", noOther},
	"intercom": {"the secret is part of a URL", noOther},
	"mailru":   {"the profile is asked for with the token in a URL", noOther},
	"reddit":   {"goth asks for the profile with a client of its own, without limits", noOther},
	"seatalk":  {"goth asks for the profile with a client of its own, without limits", noOther},
	"paypal":   {"goth chooses the server by a variable of the environment", noOther},

	// Not OAuth 2.0.
	"lark":      {otherProtocol, noOther},
	"lastfm":    {otherProtocol, noOther},
	"steam":     {otherProtocol, noOther},
	"tiktok":    {otherProtocol, noOther},
	"tumblr":    {otherProtocol, noOther},
	"twitter":   {otherProtocol, noOther},
	"twitterv2": {otherProtocol, noOther},
	"wechat":    {otherProtocol, noOther},
	"wecom":     {otherProtocol, noOther},

	// Gone, or closed to new applications, in the version that goth asks.
	"battlenet":   {discontinued, noOther},
	"deezer":      {discontinued, noOther},
	"eveonline":   {discontinued, noOther},
	"gplus":       {discontinued, "write google"},
	"influxcloud": {discontinued, noOther},
	"instagram":   {discontinued, "write goth:facebook"},
	"linkedin":    {discontinued, "write oidc, with the issuer https://www.linkedin.com/oauth"},
	"meetup":      {discontinued, noOther},
	"oura":        {discontinued, noOther},
	"soundcloud":  {discontinued, noOther},
	"typetalk":    {discontinued, noOther},
	"uber":        {discontinued, noOther},
	"wepay":       {discontinued, noOther},

	// It asks the server in its constructor, which keeps the program from starting when that
	// server is down.
	"openidConnect": {"there is a strategy of its own", "write oidc"},
}

const (
	otherProtocol = "it does not speak OAuth 2.0 as the standard has it"
	discontinued  = "what goth asks is gone, or closed to new applications"
	noOther       = "remove the entry"
)
