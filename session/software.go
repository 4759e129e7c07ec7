package session

import "github.com/mileusna/useragent"

// Software names the browser and the system in a User-Agent header, "Firefox" and
// "Linux"; empty for what it does not tell. Nothing in it is certain: who sends it can
// write whatever they like.
func Software(userAgent string) (browser, system string) {
	ua := useragent.Parse(userAgent)
	return ua.Name, ua.OS
}
