-- An amendment as it stands in a seal, as `farebox_event_leaf` has an event. Counts and amount are differences.
CREATE FUNCTION farebox_amendment_leaf(a usage_amendment) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT '{"kind":"amendment","request_id":"req_' || replace(a.request_id::text, '-', '')
        || '","organization_id":"org_' || replace(a.organization_id::text, '-', '')
        || '","project_id":"proj_' || replace(a.project_id::text, '-', '')
        || '","api_key_id":"key_' || replace(a.api_key_id::text, '-', '')
        || '","model":' || to_json(a.model_id)::text
        || ',"status":"' || a.status
        || '","input_tokens":' || a.input_tokens::text
        || ',"cached_input_tokens":' || a.cached_input_tokens::text
        || ',"output_tokens":' || a.output_tokens::text
        || ',"input_per_million":"' || a.input_per_million::text
        || '","cached_input_per_million":"' || a.cached_input_per_million::text
        || '","output_per_million":"' || a.output_per_million::text
        || '","amount":"' || a.amount::text
        || '","currency":"' || a.currency::text
        || '","created_at":"' || to_char(a.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '"}'
$$;
