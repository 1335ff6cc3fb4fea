//! A service account: its key, as a file of it looks, and whether a token is by it.
//! <https://developers.google.com/identity/protocols/oauth2/service-account#jwt-auth>

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::refusal::Refusal;

const EMAIL: &str = "backups@testbed.iam.gserviceaccount.com";
const KEY_ID: &str = "0123456789abcdef0123456789abcdef01234567";

/// "a maximum of 1 hour", and what clocks may differ.
const LONGEST: Duration = Duration::from_secs(3_600);
const SKEW: Duration = Duration::from_secs(60);

/// What a token must allow: <https://cloud.google.com/storage/docs/oauth-scopes>
const SCOPES: [&str; 3] = [
    "https://www.googleapis.com/auth/devstorage.read_write",
    "https://www.googleapis.com/auth/devstorage.full_control",
    "https://www.googleapis.com/auth/cloud-platform",
];

pub(super) struct Account {
    file: String,
    public: Vec<u8>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account(…)")
    }
}

impl Account {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap_or_else(|cause| panic!("no RSA key: {cause}"));
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).unwrap_or_else(|cause| panic!("no RSA key: {cause}"));
        let encoded = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> =
            encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        let file = serde_json::json!({
            "type": "service_account",
            "project_id": "testbed",
            "private_key_id": KEY_ID,
            "private_key": pem,
            "client_email": EMAIL,
            "client_id": "1",
            "token_uri": "https://oauth2.googleapis.com/token",
            "universe_domain": "googleapis.com",
        });
        Self { file: file.to_string(), public: key.public_key().as_ref().to_vec() }
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Whether the header is that of a token that this account has signed, for what is asked here, and now.
    pub(super) fn check(&self, authorization: Option<&str>) -> Result<(), Refusal> {
        let refuse = |why: &str| Refusal::unauthorized(why);
        let token = authorization.ok_or_else(|| refuse("Login Required."))?;
        let token = token.strip_prefix("Bearer ").ok_or_else(|| refuse("Invalid Credentials"))?;
        let (signed, signature) = token.rsplit_once('.').ok_or_else(|| refuse("Invalid Credentials"))?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| refuse("Invalid Credentials"))?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| refuse("Invalid JWT Signature."))?;
        let claims = signed.split_once('.').and_then(|(_, claims)| URL_SAFE_NO_PAD.decode(claims).ok());
        let claims: Value = claims.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let number = |name: &str| claims.get(name).and_then(Value::as_u64).map(Duration::from_secs);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (Some(from), Some(until)) = (number("iat"), number("exp")) else {
            return Err(refuse("Invalid JWT: iat or exp is missing"));
        };
        if from > now + SKEW || until + SKEW < now || until > from + LONGEST + SKEW {
            return Err(refuse(
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.",
            ));
        }
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("iss") != EMAIL || text("sub") != EMAIL {
            return Err(refuse("Invalid JWT: of another account"));
        }
        match text("scope").split(' ').any(|scope| SCOPES.contains(&scope)) {
            true => Ok(()),
            false => Err(Refusal::forbidden("Insufficient Permission")),
        }
    }
}
