//! Signed tokens: JSON Web Tokens in compact form, ES256 only.
//!
//! ```text
//! base64url({"alg":"ES256","kid":…}) . base64url(claims) . base64url(r‖s)
//! ```
//! Why ES256: Kubernetes' clients and every OpenID relying party know it; the signature is
//! ring's, which TLS uses already. Why no library around it: what remains is three parts
//! between dots, and the known mistakes (an algorithm that the token chooses, a key that
//! it brings along) cannot be made where there is one algorithm and the keys are ours.
//! Invariant: nothing of a token counts before its signature was checked, except which of
//! our keys to check it with.
//! Not here: what the claims mean, and where the keys are kept (`objects/access`).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const ALGORITHM: &str = "ES256";
/// Longest token that is looked at, bytes.
const TOKEN_MAX_BYTES: usize = 16 * 1024;
/// An uncompressed point: a mark, x and y.
const POINT_BYTES: usize = 65;

#[derive(Debug, thiserror::Error)]
pub enum JwsError {
    #[error("cannot make a key for signing tokens")]
    Generate,
    #[error("the key for signing tokens cannot be used: {reason}")]
    Key { reason: String },
    #[error("cannot sign a token")]
    Sign,
    #[error("the token is not a JSON Web Token")]
    Form,
    #[error("the token names no key of this cluster")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
}

/// A pair of keys for signing tokens.
pub struct SigningKey(EcdsaKeyPair);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SigningKey").field(&self.id()).finish()
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Names a public key by its hash.
fn key_id(point: &[u8]) -> String {
    encode(Sha256::digest(point))
}

impl SigningKey {
    /// A new key, as PKCS #8.
    pub fn generate() -> Result<Vec<u8>, JwsError> {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        Ok(made.map_err(|_| JwsError::Generate)?.as_ref().to_vec())
    }

    /// Reads PKCS #8.
    pub fn read(pkcs8: &[u8]) -> Result<Self, JwsError> {
        let random = SystemRandom::new();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map(Self)
            .map_err(|error| JwsError::Key { reason: error.to_string() })
    }

    /// The key's name in tokens.
    pub fn id(&self) -> String {
        key_id(self.0.public_key().as_ref())
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey { point: self.0.public_key().as_ref().to_vec() }
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> Result<String, JwsError> {
        let header = json!({"alg": ALGORITHM, "kid": self.id()});
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|_| JwsError::Sign)?;
        Ok(format!("{signed}.{}", encode(signature)))
    }
}

/// What a signature is checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    point: Vec<u8>,
}

impl PublicKey {
    /// From an uncompressed point, as [`PublicKey::point`] gives it.
    pub fn from_point(point: Vec<u8>) -> Result<Self, JwsError> {
        if point.len() != POINT_BYTES {
            return Err(JwsError::Key { reason: "it is no point of P-256".into() });
        }
        Ok(Self { point })
    }

    pub fn point(&self) -> &[u8] {
        &self.point
    }

    pub fn id(&self) -> String {
        key_id(&self.point)
    }

    /// As a JSON Web Key, for `/openid/v1/jwks`.
    pub fn jwk(&self) -> Value {
        json!({
            "use": "sig", "kty": "EC", "kid": self.id(), "crv": "P-256", "alg": ALGORITHM,
            "x": encode(&self.point[1..33]), "y": encode(&self.point[33..]),
        })
    }
}

fn part(text: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// Whether a text looks like a token of this kind, whoever signed it.
pub fn is_token(text: &str) -> bool {
    text.split('.').count() == 3
}

/// The claims of a token that one of the keys has signed.
pub fn verify(token: &str, keys: &[PublicKey]) -> Result<Value, JwsError> {
    if token.len() > TOKEN_MAX_BYTES {
        return Err(JwsError::Form);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(JwsError::Form)?;
    let (header, claims) = signed.split_once('.').ok_or(JwsError::Form)?;
    let header = part(header).ok_or(JwsError::Form)?;
    let critical = header.get("crit").is_some();
    if header["alg"] != ALGORITHM || critical {
        return Err(JwsError::Form);
    }
    let named = header["kid"].as_str().ok_or(JwsError::UnknownKey)?;
    let key = keys.iter().find(|key| key.id() == named).ok_or(JwsError::UnknownKey)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwsError::Form)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.point)
        .verify(signed.as_bytes(), &signature)
        .map_err(|_| JwsError::Signature)?;
    part(claims).ok_or(JwsError::Form)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{JwsError, SigningKey, encode, verify};

    fn key() -> SigningKey {
        SigningKey::read(&SigningKey::generate().unwrap()).unwrap()
    }

    #[test]
    fn only_the_signed_claims_of_a_known_key_count() {
        let (own, other) = (key(), key());
        let claims = json!({"sub": "system:serviceaccount:shop:web", "exp": 10});
        let token = own.sign(&claims).unwrap();
        assert_eq!(verify(&token, &[other.public(), own.public()]).unwrap(), claims);
        assert!(matches!(verify(&token, &[other.public()]), Err(JwsError::UnknownKey)));
        let parts: Vec<&str> = token.split('.').collect();
        let forged = encode(json!({"sub": "system:serviceaccount:shop:db"}).to_string());
        let changed = [parts[0], &forged, parts[2]].join(".");
        assert!(matches!(verify(&changed, &[own.public()]), Err(JwsError::Signature)));
        // Another key's signature under our key's name.
        let stolen = other.sign(&claims).unwrap();
        let stolen = [parts[0], parts[1], stolen.rsplit('.').next().unwrap()].join(".");
        assert!(matches!(verify(&stolen, &[own.public()]), Err(JwsError::Signature)));
    }

    #[test]
    fn a_token_does_not_choose_how_it_is_checked() {
        let own = key();
        let token = own.sign(&json!({})).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        for header in [
            json!({"alg": "none", "kid": own.id()}),
            json!({"alg": "HS256", "kid": own.id()}),
            json!({"alg": "ES256", "kid": own.id(), "crit": ["exp"]}),
            json!({"kid": own.id()}),
        ] {
            let header = encode(header.to_string());
            for signature in [parts[2], ""] {
                let bad = [&header, parts[1], signature].join(".");
                assert!(verify(&bad, &[own.public()]).is_err(), "{bad}");
            }
        }
        for end in 0..token.len() {
            assert!(verify(&token[..end], &[own.public()]).is_err());
        }
    }

    #[test]
    fn the_published_key_is_the_point_in_two_halves() {
        let public = key().public();
        let jwk = public.jwk();
        assert_eq!((jwk["kty"].as_str(), jwk["crv"].as_str()), (Some("EC"), Some("P-256")));
        assert_eq!(jwk["x"].as_str().unwrap().len(), 43);
        assert_eq!(jwk["y"].as_str().unwrap().len(), 43);
        assert_eq!(jwk["kid"], public.id());
    }
}
