// Package sasl says who a client is: it makes the messages of the SASL mechanisms
// (RFC 4422) that Kafka's brokers know, and judges what they answer.
//
// Here live
//
//   - [Mechanism] and [Exchange], the two interfaces that a mechanism has to satisfy,
//     also one of a user's own;
//   - [Plain], the password as it is (RFC 4616);
//   - [Scram256] and [Scram512], a proof of the password that does not tell it, and the
//     broker's proof in return (RFC 5802, RFC 7677, KIP-84);
//   - [OAuthBearer], a token that others have given (RFC 7628, KIP-255, KIP-342).
//
// SCRAM itself is github.com/xdg-go/scram. What this package adds is what that library
// leaves to its caller: bounds on what a broker may ask for, an end of its cache, and that
// an exchange that failed stays failed.
//
// [PlainFunc], [Scram256Func], [Scram512Func] and [OAuthBearer] ask a function of the
// user's for each exchange, so that credentials can be changed while a program runs.
//
// What will never live here: input, output and requests (whoever has the connection wraps
// the messages in SaslAuthenticate, KIP-152, and reads the error code of the answer), the
// choice of a mechanism, TLS, GSSAPI (Kerberos needs a library of its own and a key
// distribution centre; wrap one in [Mechanism]), fetching tokens, delegation tokens, a
// goroutine, a clock.
//
// # Secrets
//
// No error that this package makes holds a password, a token or what was derived from one,
// and package fmt shows of a mechanism, an exchange or a [Token] its name only. The errors
// of a user's function are passed on as they are.
//
// PLAIN and OAUTHBEARER send the secret itself: use them over TLS only. SCRAM does not, but
// whoever reads along can try passwords against what he has read, and nothing protects the
// records that follow.
package sasl
