-- An amendment as it stands in a seal, as `farebox_event_leaf` has an event. Counts and amount are differences.
CREATE FUNCTION farebox_amendment_leaf(a usage_amendment) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT format(
        '{"kind":"amendment","request_id":"req_%s","organization_id":"org_%s",'
        '"project_id":"proj_%s","api_key_id":"key_%s",'
        '"model":%s,"status":"%s","input_tokens":%s,"cached_input_tokens":%s,"output_tokens":%s,'
        '"input_per_million":"%s","cached_input_per_million":"%s",'
        '"output_per_million":"%s","items":%s,"input_amount":"%s","cached_input_amount":"%s",'
        '"item_amount":"%s","amount":"%s","currency":"%s","created_at":"%s"}',
        encode(uuid_send(a.request_id), 'hex'), encode(uuid_send(a.organization_id), 'hex'),
        encode(uuid_send(a.project_id), 'hex'), encode(uuid_send(a.api_key_id), 'hex'),
        to_json(a.model_id), a.status, a.input_tokens, a.cached_input_tokens, a.output_tokens,
        a.input_per_million, a.cached_input_per_million,
        a.output_per_million, a.items, a.input_amount, a.cached_input_amount, a.item_amount,
        a.amount, a.currency,
        to_char(a.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    )
$$;
