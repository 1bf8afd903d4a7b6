package kafkacluster

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
)

// scramIterations is the least that Kafka takes.
const scramIterations = 4096

// formatArgs writes the users' SCRAM credentials into the first metadata, so that
// they are known before any listener is open: a request to a started cluster
// would reach its brokers some time later, and a login before that is refused for
// good. Passwords go salted, since StorageTool splits at commas and a JVM reads
// its arguments in the system's encoding.
func (s *Security) formatArgs() ([]string, error) {
	if s == nil {
		return nil, nil
	}
	var args []string
	for _, name := range slices.Sorted(maps.Keys(s.Users)) {
		salt := make([]byte, 16)
		_, _ = rand.Read(salt) // never fails
		sha256Key, err := pbkdf2.Key(sha256.New, s.Users[name], salt, scramIterations, sha256.Size)
		if err != nil {
			return nil, err
		}
		sha512Key, err := pbkdf2.Key(sha512.New, s.Users[name], salt, scramIterations, sha512.Size)
		if err != nil {
			return nil, err
		}
		args = append(args,
			"--add-scram", scramArg("SCRAM-SHA-256", name, salt, sha256Key),
			"--add-scram", scramArg("SCRAM-SHA-512", name, salt, sha512Key))
	}
	return args, nil
}

func scramArg(mechanism, name string, salt, saltedPassword []byte) string {
	text := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s=[name=%s,salt=%s,saltedpassword=%s,iterations=%d]", mechanism, name, text(salt), text(saltedPassword), scramIterations)
}
