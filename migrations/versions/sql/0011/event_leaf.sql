-- A usage event as it stands in a seal: all that its bill is made of, as JSON. Sealed hours hold its hash, so
-- the text of an event must never change. A column that events get later may stand here only where it is set.
CREATE FUNCTION farebox_event_leaf(e usage_event) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT '{"kind":"event","request_id":"req_' || replace(e.request_id::text, '-', '')
        || '","organization_id":"org_' || replace(e.organization_id::text, '-', '')
        || '","project_id":"proj_' || replace(e.project_id::text, '-', '')
        || '","api_key_id":"key_' || replace(e.api_key_id::text, '-', '')
        || '","model":' || to_json(e.model_id)::text
        || ',"status":"' || e.status
        || '","input_tokens":' || e.input_tokens::text
        || ',"cached_input_tokens":' || e.cached_input_tokens::text
        || ',"output_tokens":' || e.output_tokens::text
        || ',"price_id":"price_' || replace(e.price_id::text, '-', '')
        || '","input_per_million":"' || e.input_per_million::text
        || '","cached_input_per_million":"' || e.cached_input_per_million::text
        || '","output_per_million":"' || e.output_per_million::text
        || '","amount":"' || e.amount::text
        || '","currency":"' || e.currency::text
        || '","created_at":"' || to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '"}'
$$;
