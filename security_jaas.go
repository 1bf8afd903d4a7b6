package troupe

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// parseJAAS reads a login as Java's clients are given it (JaasConfig):
//
//	org.apache.kafka.common.security.plain.PlainLoginModule required username="…" password="…";
//
// No error repeats what it has read: anything may be a part of a password.
func parseJAAS(text, mechanism string) (user, password string, err error) {
	words, err := jaasWords(text)
	if err != nil {
		return "", "", err
	}
	want := "PlainLoginModule"
	if strings.HasPrefix(mechanism, "SCRAM-") {
		want = "ScramLoginModule"
	}
	switch {
	case len(words) == 0 || !strings.HasSuffix(words[0].text, "."+want):
		return "", "", fmt.Errorf("expected the module org.apache.kafka.common.security…%s for the mechanism %s", want, mechanism)
	case len(words) < 2 || !isControlFlag(words[1].text):
		return "", "", errors.New("expected required, requisite, sufficient or optional behind the module")
	case words[len(words)-1].text != ";" || words[len(words)-1].quoted:
		return "", "", errors.New("expected a semicolon at the end")
	}
	for words = words[2 : len(words)-1]; len(words) > 0; words = words[3:] {
		if len(words) < 3 || words[0].quoted || words[1].quoted || words[1].text != "=" || words[2].isMark() {
			return "", "", errors.New(`expected name="value", one after the other, and one semicolon at the end`)
		}
		switch words[0].text {
		case "username":
			user = words[2].text
		case "password":
			password = words[2].text
		default:
			return "", "", errors.New("expected no other options than username and password")
		}
	}
	return user, password, nil
}

func isControlFlag(word string) bool {
	for _, flag := range []string{"required", "requisite", "sufficient", "optional"} {
		if strings.EqualFold(word, flag) {
			return true
		}
	}
	return false
}

// jaasWord is a word, a text in quotes, or one of the marks = and ;.
type jaasWord struct {
	text   string
	quoted bool
}

func (w jaasWord) isMark() bool { return !w.quoted && (w.text == "=" || w.text == ";") }

// jaasWords takes a login apart.
func jaasWords(text string) (words []jaasWord, err error) {
	runes := []rune(text)
	for i := 0; i < len(runes); {
		switch r := runes[i]; {
		case unicode.IsSpace(r):
			i++
		case r == '=' || r == ';':
			words = append(words, jaasWord{string(r), false})
			i++
		case r == '"' || r == '\'':
			var b strings.Builder
			for i++; ; i++ {
				if i >= len(runes) {
					return nil, errors.New("a quotation mark is not closed")
				}
				if runes[i] == r {
					break
				}
				if runes[i] == '\\' && i+1 < len(runes) {
					i++
				}
				b.WriteRune(runes[i])
			}
			i++
			words = append(words, jaasWord{b.String(), true})
		default:
			from := i
			for i < len(runes) && !unicode.IsSpace(runes[i]) && runes[i] != '=' && runes[i] != ';' {
				if runes[i] == '"' || runes[i] == '\'' || runes[i] == '\\' {
					return nil, errors.New("a quotation mark or a backslash stands in a value without quotation marks")
				}
				i++
			}
			words = append(words, jaasWord{string(runes[from:i]), false})
		}
	}
	return words, nil
}
