-- A usage event as it stands in a seal: all that its bill is made of, as JSON. Sealed hours hold its hash, so
-- the text of an event must never change. A column that events get later may stand here only where it is set.
CREATE FUNCTION farebox_event_leaf(e usage_event) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT format(
        '{"kind":"event","request_id":"req_%s","organization_id":"org_%s",'
        '"project_id":"proj_%s","api_key_id":"key_%s",'
        '"model":%s,"status":"%s","input_tokens":%s,"cached_input_tokens":%s,"output_tokens":%s,'
        '"price_id":"price_%s","input_per_million":"%s","cached_input_per_million":"%s",'
        '"output_per_million":"%s","items":%s,"item_per_million":"%s","input_amount":"%s",'
        '"cached_input_amount":"%s","item_amount":"%s","amount":"%s","currency":"%s",%s"created_at":"%s"}',
        encode(uuid_send(e.request_id), 'hex'), encode(uuid_send(e.organization_id), 'hex'),
        encode(uuid_send(e.project_id), 'hex'), encode(uuid_send(e.api_key_id), 'hex'),
        to_json(e.model_id), e.status, e.input_tokens, e.cached_input_tokens, e.output_tokens,
        encode(uuid_send(e.price_id), 'hex'), e.input_per_million, e.cached_input_per_million,
        e.output_per_million, e.items, e.item_per_million, e.input_amount, e.cached_input_amount, e.item_amount,
        e.amount, e.currency,
        -- How many tokens of each class the month had before, at a price with tiers.
        CASE WHEN e.tiers_from IS NOT NULL THEN '"tiers_from":' || to_json(e.tiers_from)::text || ',' END,
        to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    )
$$;
