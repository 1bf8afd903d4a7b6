package kafkacluster

import (
	"encoding/base64"
	"encoding/json"
	"time"
)

// UnsecuredToken returns a token for OAUTHBEARER that the brokers of a cluster with
// Security believe: a JWS without a signature (RFC 7515, appendix A.5) that names
// its owner and when it expires. The session that it opens ends with it.
func UnsecuredToken(name string, lifetime time.Duration) string {
	part := func(fields map[string]any) string {
		text, err := json.Marshal(fields)
		if err != nil {
			panic(err) // strings and numbers only
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	now := time.Now()
	seconds := func(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
	return part(map[string]any{"alg": "none"}) + "." +
		part(map[string]any{"sub": name, "iat": seconds(now), "exp": seconds(now.Add(lifetime))}) + "."
}
