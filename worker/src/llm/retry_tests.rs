//! One table for each service: (status, body) → what it means.

use serde_json::json;

use super::super::reply::Headers;
use super::*;

const BUSY: LlmErrorKind = LlmErrorKind::Overloaded { retry_after: None };

fn kind(status: u16, body: &str) -> LlmErrorKind {
    let reply = Reply { status, headers: Headers::default(), body: body.as_bytes().to_vec() };
    kind_of(&reply, &ErrorInfo::read(&reply.body), None)
}

fn check(table: &[(u16, &str, LlmErrorKind)]) {
    for (status, body, expected) in table {
        assert_eq!(kind(*status, body), *expected, "{status} {body}");
    }
}

#[test]
fn openai() {
    use LlmErrorKind as Kind;
    check(&[
        (
            400,
            r#"{"error":{"message":"This model's maximum context length is 128000 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            Kind::PromptTooLong,
        ),
        (
            400,
            r#"{"error":{"message":"Unsupported parameter: 'max_tokens'","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}"#,
            Kind::Rejected,
        ),
        (
            401,
            r#"{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
            Kind::KeyRefused,
        ),
        (
            403,
            r#"{"error":{"message":"Country not supported","code":"unsupported_country_region_territory"}}"#,
            Kind::KeyRefused,
        ),
        (
            404,
            r#"{"error":{"message":"The model `x` does not exist","code":"model_not_found"}}"#,
            Kind::ModelNotFound,
        ),
        (404, r#"{"error":{"message":"Invalid URL"}}"#, Kind::ProxyReply),
        (408, "", Kind::Timeout),
        (409, "", Kind::ServerFault),
        (422, r#"{"error":{"message":"no"}}"#, Kind::Rejected),
        (
            429,
            r#"{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}"#,
            BUSY,
        ),
        (
            429,
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
            Kind::QuotaExhausted,
        ),
        (429, r#"{"error":{"message":"Slow down","code":"slow_down"}}"#, BUSY),
        (500, r#"{"error":{"message":"The server had an error"}}"#, Kind::ServerFault),
        (502, "<html>Bad Gateway</html>", Kind::ProxyReply),
        (503, r#"{"error":{"code":"server_is_overloaded"}}"#, BUSY),
        (504, "", Kind::Timeout),
        (301, "", Kind::ProxyReply),
    ]);
}

#[test]
fn compatible_servers() {
    use LlmErrorKind as Kind;
    check(&[
        (
            400,
            r#"{"error":{"code":400,"message":"request (13392 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":13392,"n_ctx":8192}}"#,
            Kind::PromptTooLong,
        ),
        (
            400,
            r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","param":null,"code":400}"#,
            Kind::PromptTooLong,
        ),
        (
            400,
            r#"{"error":{"code":400,"message":"failed to parse grammar","type":"invalid_request_error"}}"#,
            Kind::Rejected,
        ),
        (
            401,
            r#"{"error":{"code":401,"message":"Invalid API Key","type":"authentication_error"}}"#,
            Kind::KeyRefused,
        ),
        (403, "forbidden by a proxy", Kind::KeyRefused),
        (
            404,
            r#"{"object":"error","message":"The model `x` does not exist.","type":"NotFoundError","code":404}"#,
            Kind::ModelNotFound,
        ),
        (404, r#"{"detail":"Not Found"}"#, Kind::ProxyReply),
        (
            501,
            r#"{"error":{"code":501,"message":"This server does not support it","type":"not_supported_error"}}"#,
            Kind::Rejected,
        ),
        (
            503,
            r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
            Kind::ModelLoading,
        ),
        (500, r#"{"error":{"message":"CUDA out of memory"}}"#, Kind::OutOfMemory),
        (
            200,
            "event: error\ndata: {\"error\":{\"message\":\"Reached context length: greater than the context length\"}}\n\n",
            Kind::PromptTooLong,
        ),
    ]);
}

#[test]
fn a_servers_state_is_no_refusal_of_the_request() {
    use LlmErrorKind as Kind;
    let lm_studio = |text: &str| json!({ "error": text }).to_string();
    let openai =
        |code: u16, text: &str| json!({"error": {"message": text, "type": "x", "code": code}}).to_string();
    check(&[
        // LM Studio
        (
            400,
            &openai(
                400,
                "No models loaded. Please load a model in the developer page or use the 'lms load' command.",
            ),
            Kind::ModelLoading,
        ),
        (400, &lm_studio("Model unloaded."), Kind::ModelLoading),
        (400, &lm_studio("Model is unloaded."), Kind::ModelLoading),
        (400, &lm_studio("Channel Error"), Kind::ServerFault),
        (
            400,
            &lm_studio(
                "The model has crashed without additional information. (Exit code: 18446744072635812000)",
            ),
            Kind::ServerFault,
        ),
        (
            400,
            &lm_studio("Failed to load model \"m\". Error: stopped due to insufficient system resources."),
            Kind::OutOfMemory,
        ),
        (404, &lm_studio("Failed to load model \"m\"."), Kind::ServerFault),
        // vLLM, llama.cpp, LiteLLM
        (500, &openai(500, "EngineCore encountered an issue. See stack trace (above)."), Kind::ServerFault),
        (400, &openai(400, "Background loop has errored already."), Kind::ServerFault),
        (500, &openai(500, "Context size has been exceeded."), Kind::ServerFault),
        (503, &openai(503, "Loading model"), Kind::ModelLoading),
        (408, &openai(408, "litellm.Timeout: APITimeoutError - Request timed out."), Kind::Timeout),
        (400, &openai(400, "CUDA out of memory"), Kind::OutOfMemory),
        // What a proxy or tunnel says.
        (404, "The endpoint abc.ngrok-free.app is offline.\n\nERR_NGROK_3200\n", Kind::ProxyReply),
        (404, "404 page not found\n", Kind::ProxyReply),
        (404, "<html>model.example.org is not here</html>", Kind::ProxyReply),
        (405, "<html>405 Not Allowed</html>", Kind::ProxyReply),
        (302, "", Kind::ProxyReply),
        (400, "<html>The plain HTTP request was sent to HTTPS port</html>", Kind::ProxyReply),
        (500, "<html>Internal Server Error</html>", Kind::ProxyReply),
        (521, "error code: 521", Kind::ProxyReply),
        (530, "<html>Error 1033</html>", Kind::ProxyReply),
        (524, "<html>A timeout occurred</html>", Kind::Timeout),
        (200, "<html>Log in to the hotel network</html>", Kind::ProxyReply),
        (403, "<html>Forbidden</html>", Kind::KeyRefused),
        (401, "<html>Authorization Required</html>", Kind::KeyRefused),
        (429, "", BUSY),
        (429, "Rate limit reached, please try again in 1.2s", BUSY),
        (503, "<html>no available server</html>", BUSY),
        // What is about this one request stays a refusal.
        (400, &openai(400, "temperature must be at most 2"), Kind::Rejected),
        (400, &openai(400, "flagged by moderation"), Kind::Refused),
        (
            400,
            r#"{"error":{"message":"Failed to generate JSON","code":"x","failed_generation":"out of memory, channel error"}}"#,
            Kind::Rejected,
        ),
        (413, "<html>413 Request Entity Too Large</html>", Kind::PromptTooLong),
        (400, &openai(400, "This model's maximum context length is 4096 tokens."), Kind::PromptTooLong),
    ]);
}

#[test]
fn gateways_say_in_many_ways_that_they_do_not_have_a_model() {
    use LlmErrorKind as Kind;
    let said = |message: &str, code: &str| json!({"error": {"message": message, "code": code}}).to_string();
    for (status, body) in [
        (400, said("foo/bar is not a valid model ID", "400")),
        (
            400,
            said(
                "Invalid model name passed in model=foo. Call `/v1/models` to view available models.",
                "400",
            ),
        ),
        (400, said("The requested model 'x' does not exist", "model_not_found")),
        (
            400,
            said(
                "The requested model is not supported by any provider you have enabled.",
                "model_not_supported",
            ),
        ),
        (404, said("The API deployment for this resource does not exist.", "DeploymentNotFound")),
        (400, json!({"error": "could not find real modelID for x"}).to_string()),
        (404, said("Model not found, inaccessible, and/or not deployed", "NOT_FOUND")),
        (400, said("Model Not Exist", "invalid_request_error")),
        (400, said("Invalid model: x", "1500")),
        (404, said("The model `x` does not exist", "404")),
    ] {
        assert_eq!(kind(status, &body), Kind::ModelNotFound, "{status} {body}");
    }
    assert_eq!(kind(400, &said("Unknown name \"x\": Cannot find field.", "400")), Kind::Rejected);
}

#[test]
fn an_error_within_an_answer_has_the_status_that_it_names() {
    use LlmErrorKind as Kind;
    for (code, kind) in [
        (json!(429), BUSY),
        (json!("429"), BUSY),
        (json!(502), Kind::ProxyReply),
        (json!(503), BUSY),
        (json!(408), Kind::Timeout),
        (json!(402), Kind::QuotaExhausted),
        (json!(401), Kind::KeyRefused),
        (json!(400), Kind::Rejected),
        (json!(500), Kind::ServerFault),
        (json!("server_error"), Kind::ServerFault),
        (json!(null), Kind::ServerFault),
        (json!(7), Kind::ServerFault),
    ] {
        let error = json!({"code": code, "message": "Provider returned error"});
        let whole = json!({ "error": error });
        let choice =
            json!({"choices": [{"error": error, "finish_reason": "error", "message": {"content": ""}}]});
        for body in [&whole, &choice] {
            assert_eq!(ErrorInfo::read(body.to_string().as_bytes()).message, "Provider returned error");
            check(&[(200, &body.to_string(), kind)]);
        }
    }
}

#[test]
fn claude() {
    use LlmErrorKind as Kind;
    let error = |kind: &str, message: &str| {
        json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})
            .to_string()
    };
    check(&[
        (
            400,
            &error("invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum"),
            Kind::PromptTooLong,
        ),
        (
            400,
            &error("invalid_request_error", "Your credit balance is too low to access the API"),
            Kind::QuotaExhausted,
        ),
        (400, &error("invalid_request_error", "temperature: not supported"), Kind::Rejected),
        (401, &error("authentication_error", "invalid x-api-key"), Kind::KeyRefused),
        (402, &error("billing_error", "x"), Kind::QuotaExhausted),
        (403, &error("permission_error", "x"), Kind::KeyRefused),
        (404, &error("not_found_error", "model: claude-x"), Kind::ModelNotFound),
        (413, &error("request_too_large", "x"), Kind::PromptTooLong),
        (429, &error("rate_limit_error", "x"), BUSY),
        (
            429,
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"x","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
            Kind::QuotaExhausted,
        ),
        (500, &error("api_error", "x"), Kind::ServerFault),
        (504, &error("timeout_error", "x"), Kind::Timeout),
        (529, &error("overloaded_error", "x"), BUSY),
        (200, &error("overloaded_error", "x"), BUSY),
    ]);
}

#[test]
fn gemini() {
    use LlmErrorKind as Kind;
    let error = |code: u16, status: &str, message: &str| {
        json!({"error": {"code": code, "message": message, "status": status}}).to_string()
    };
    let day = r#"{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}]}}"#;
    let minute = day.replace("PerDay", "PerMinute");
    check(&[
        (
            400,
            &error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
            Kind::KeyRefused,
        ),
        (
            400,
            &error(400, "INVALID_ARGUMENT", "The input token count (1200000) exceeds the maximum"),
            Kind::PromptTooLong,
        ),
        (400, &error(400, "INVALID_ARGUMENT", "Unknown name \"x\""), Kind::Rejected),
        (403, &error(403, "PERMISSION_DENIED", "x"), Kind::KeyRefused),
        (404, &error(404, "NOT_FOUND", "models/x is not found for API version v1beta"), Kind::ModelNotFound),
        (429, day, Kind::QuotaExhausted),
        (429, &minute, BUSY),
        (429, &format!("[{minute}]"), BUSY),
        (500, &error(500, "INTERNAL", "x"), Kind::ServerFault),
        (503, &error(503, "UNAVAILABLE", "The model is overloaded"), BUSY),
        (504, &error(504, "DEADLINE_EXCEEDED", "x"), Kind::Timeout),
    ]);
}

#[test]
fn the_services_own_word_about_retrying_counts() {
    let reply = |status, value| Reply {
        status,
        headers: [("x-should-retry", value)].into_iter().collect(),
        body: b"{}".to_vec(),
    };
    let info = ErrorInfo::read(b"{}");
    let kind = |reply: &Reply| kind_of(reply, &info, None);
    assert_eq!(kind(&reply(500, "false")), LlmErrorKind::Rejected);
    assert_eq!(kind(&reply(400, "true")), LlmErrorKind::ServerFault);
}

#[test]
fn every_form_of_an_error_gives_its_text() {
    for (body, message) in [
        (r#"{"error":{"message":"a"}}"#, "a"),
        (r#"[{"error":{"message":"b"}}]"#, "b"),
        (r#"{"error":"c"}"#, "c"),
        (r#"{"object":"error","message":"d"}"#, "d"),
        ("event: error\ndata: {\"error\":{\"message\":\"e\"}}", "e"),
        ("<html>f</html>", "f"),
        ("<html><title>g</title>h</html>", "g"),
        ("", "(no text)"),
    ] {
        assert_eq!(ErrorInfo::read(body.as_bytes()).message, message, "{body}");
    }
}
