package admin

import (
	"html/template"
	"net/http"

	"github.com/paddockio/paddock/agent/api"
)

// pageData is what the page shows.
type pageData struct {
	Status        api.Status
	Services      api.ServiceList
	Registrations api.RegistrationList
	Config        api.ConfigStatus
	CommandURL    string
	// MoreServices and MoreRegistrations are how many lines were left out.
	MoreServices, MoreRegistrations int
}

// maxRows bounds a table of the page, which is made anew every few seconds; the
// API has the rest.
const maxRows = 200

func cut[T any](list *[]T) (more int) {
	more = max(0, len(*list)-maxRows)
	*list = (*list)[:len(*list)-more]
	return more
}

func (a *Server) page(w http.ResponseWriter, _ *http.Request) {
	src := a.cfg.Source
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	data := pageData{
		Status: a.status(), Services: src.Services(), Registrations: src.Registrations(), Config: src.ConfigStatus(),
		CommandURL: a.cfg.CommandURL,
	}
	data.MoreServices, data.MoreRegistrations = cut(&data.Services.Services), cut(&data.Registrations.Registrations)
	if err := pageTemplate.Execute(w, data); err != nil {
		a.cfg.Logger.Warn("page", "err", err)
	}
}

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="5">
<title>{{.Status.Name}} – paddock</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.4rem} h2{font-size:1.05rem;margin:1.8rem 0 .4rem}
table{border-collapse:collapse;width:100%} td,th{text-align:left;padding:.25rem .8rem .25rem 0;border-bottom:1px solid #ddd;vertical-align:top}
code{font-size:.92em} .bad{color:#b00020} .good{color:#0a6b2d} .dim{color:#666}
@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}td,th{border-color:#333}.bad{color:#ff7b86}.good{color:#6fd08c}.dim{color:#999}}
</style>
<h1>{{.Status.Name}} {{if .Status.Ready}}<span class="good">ready</span>{{else}}<span class="bad">not ready</span>{{end}}</h1>
{{range .Status.NotReady}}<p class="bad">{{.}}</p>{{end}}
<p class="dim">paddock {{.Status.Version}}, pid {{.Status.PID}}, since {{.Status.StartedAt.Format "2006-01-02 15:04:05"}}</p>
{{with .Status.Zab}}<h2>ZooKeeper</h2>
<table><tr><th>mode<th>address<th>zxid<th>znodes<th>ephemerals<th>watches<th>connections<th>sessions</tr>
<tr><td>{{.State}}<td><code>{{.ClientAddr}}</code><td><code>{{.Zxid}}</code><td>{{.Znodes}}<td>{{.Ephemerals}}<td>{{.Watches}}<td>{{.Connections}}<td>{{.Sessions}}</tr></table>{{with .Ensemble}}
{{range .Why}}<p class="bad">{{.}}</p>{{end}}{{range .Problems}}<p class="bad">{{.}}</p>{{end}}
<table><tr><th>server<th>role<th>is<th>address<th>clients<th>holds<th>remark</tr>
{{range .Members}}<tr><td>{{.ID}}<td>{{.Role}}<td>{{.State}}<td><code>{{.Address}}</code><td><code>{{.Client}}</code><td><code>{{.Acked}}</code><td>{{if .Self}}this server{{end}}{{.Doing}} <span class="bad">{{.Error}}</span></tr>
{{end}}</table>{{end}}{{end}}
<h2>Services{{if not .Services.Live}} <span class="bad">as of {{.Services.AsOf.Format "15:04:05"}}, not connected</span>{{end}}</h2>
<table><tr><th>name<th>instances<th>protocols<th>groups<th>versions</tr>
{{range .Services.Services}}<tr><td><code>{{.Name}}</code><td>{{.Instances}}<td>{{range .Protocols}}{{.}} {{end}}<td>{{range .Groups}}{{.}} {{end}}<td>{{range .Versions}}{{.}} {{end}}</tr>
{{else}}<tr><td colspan="5" class="dim">none known</tr>{{end}}{{with .MoreServices}}<tr><td colspan="5" class="dim">and <a href="/v1/services">{{.}} more</a></tr>{{end}}</table>
<h2>Registered by this agent</h2>
<table><tr><th>id<th>service<th>address<th>state<th>from</tr>
{{range .Registrations.Registrations}}<tr><td><code>{{.ID}}</code><td>{{.Service}}<td>{{.Host}}:{{.Port}}<td class="{{if eq .State "registered"}}good{{else}}bad{{end}}">{{.State}} {{.Error}}<td>{{.Source}}</tr>
{{else}}<tr><td colspan="5" class="dim">nothing</tr>{{end}}{{with .MoreRegistrations}}<tr><td colspan="5" class="dim">and <a href="/v1/registrations">{{.}} more</a></tr>{{end}}</table>
<h2>Config files</h2>
<table><tr><th>target<th>from<th>to<th>state<th>zxid</tr>
{{range .Config.Targets}}<tr><td>{{.Name}}<td><code>{{.From}}</code><td><code>{{.To}}</code><td class="{{if eq .State "current"}}good{{else}}bad{{end}}">{{.State}} {{.Error}}<td><code>{{.Zxid}}</code></tr>
{{else}}<tr><td colspan="5" class="dim">none</tr>{{end}}</table>
<p class="dim"><a href="{{.CommandURL}}">{{.CommandURL}}</a> <a href="/metrics">/metrics</a> <a href="/v1/status">/v1/status</a></p>
</html>
`))
