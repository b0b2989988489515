-- Admission: may these requests run, and what is set aside for each? One call for all that arrived
-- while the last one ran (`GroupCommit`), one transaction, one row answered for each request in order.
--
-- A request stands under three scopes, its key, its project and its organization, each a row of
-- `meter_scope`. It is admitted if its worst case (the whole prompt and the whole output) fits under
-- every limit of all three. Then it gets a row in `hold`, and each scope counts it as active and
-- reserved. Settling gives back what was not used.
--
-- A request that leaves its answers' length open is granted as much of it as there is money for, down to
-- `p_least`; of the token buckets it takes `p_expected` until it ends, and what it used beyond when it is
-- settled. A length that was asked for is granted and taken whole, or not at all: then all three are one.
--
-- Lock order: scope rows by id. `hold` is only inserted into. Everybody who locks scopes does so in this
-- order (settle, rehold, top-ups), so that no two can wait for each other in a ring.
--
-- Verdicts: admitted, bad_key, no_model, no_quota (balance, monthly_cap, currency), rate_limited
-- (requests_per_minute, tokens_per_minute, concurrent_requests), contended (somebody else keeps a scope
-- locked; to be asked again). A refusal names scope, limit and value. `retry_after` is in seconds, infinite
-- for a request that the limit can never hold.
CREATE FUNCTION farebox_admit(
    p_owner uuid,
    p_lease interval,
    -- One array a column, all of one length.
    p_request uuid[],
    p_key uuid[],
    p_digest bytea[],
    p_model text[],
    p_prompt integer[],
    p_output integer[],
    p_expected integer[],
    p_least integer[],
    -- What is counted by the piece: classified items, reranked documents.
    p_items integer[],
    -- What a project without limits of its own obeys.
    p_default_rpm integer,
    p_default_tpm bigint,
    p_default_concurrent integer,
    -- Pass over what others keep locked, instead of waiting for it: one account's lock must not hold up the
    -- rest of a batch.
    p_skip_locked boolean
) RETURNS TABLE (
    verdict text,
    failed_scope text,
    failed_limit text,
    limit_value numeric,
    retry_after double precision,
    organization_id uuid,
    project_id uuid,
    output_tokens integer,
    -- The price that applies, to be frozen on the hold and on the usage event. Of one with tiers, the dearest
    -- rates that they can come to.
    price_id uuid,
    input_per_million numeric,
    cached_input_per_million numeric,
    output_per_million numeric,
    item_per_million numeric,
    currency text,
    tiered boolean,
    -- What is set aside for its worst case.
    reserved numeric,
    -- The tightest bucket of requests and of tokens, and what is left in it after this request.
    rpm integer,
    rpm_left double precision,
    tpm bigint,
    tpm_left double precision
) LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_month date;
    -- A bucket was last filled at a time that has not come yet: the clock was set back since.
    v_ahead boolean;
    -- The scopes of the whole batch, one place each in all of these arrays.
    v_ids uuid[];
    v_kinds text[];
    v_rpm integer[];
    v_tpm bigint[];
    v_limit integer[];
    v_cap numeric[];
    v_requests double precision[];
    v_tokens double precision[];
    v_active integer[];
    v_reserved numeric[];
    v_spent numeric[];
    v_available numeric[];
    v_currency text[];
    v_holds hold[] := '{}';
    -- Of the request at hand: the places of its key, its project and its organization, in this order.
    v_places integer[];
    v_place integer;
    v_need bigint;
    v_amount numeric;
    v_prompt_amount numeric;
    v_room numeric;
    v_wait double precision;
    v_span bigint;
    v_slack numeric;
    r record;
BEGIN
    -- A key counts only with the digest of its token: who knows a key's id alone locks nothing, and nor does
    -- who has one that opens nothing any more. It is judged below, with the locks held.
    SELECT array_agg(DISTINCT scope.id ORDER BY scope.id) INTO v_ids
    FROM unnest(p_key, p_digest) AS n (key_id, digest)
    JOIN api_key k ON k.id = n.key_id AND k.token_sha256 = n.digest
    JOIN project p ON p.id = k.project_id
    JOIN organization o ON o.id = k.organization_id
    CROSS JOIN LATERAL (VALUES (k.id), (k.project_id), (k.organization_id)) AS scope (id)
    WHERE k.revoked_at IS NULL AND k.expires_at > clock_timestamp() AND p.archived_at IS NULL
        AND o.status = 'active' AND 'inference' = ANY (k.scopes);

    IF p_skip_locked THEN
        v_ids := ARRAY(
            SELECT id FROM meter_scope WHERE id = ANY (v_ids) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
        );
    ELSE
        PERFORM 1 FROM meter_scope WHERE id = ANY (v_ids) ORDER BY id FOR NO KEY UPDATE;
    END IF;
    -- Read after the locks: the wait for them may have been long, and buckets refill by the clock.
    v_now := clock_timestamp();
    v_month := date_trunc('month', v_now AT TIME ZONE 'UTC');

    -- Every scope as it stands now: its limits with the defaults applied, its buckets refilled up to
    -- their size, spending of months before forgotten. A month that has not come yet is kept: a clock that
    -- was set back, or a standby's slower one, opens no cap anew. A limit that is NULL compares as NULL
    -- below, hence refuses nothing.
    SELECT
        array_agg(s.id),
        array_agg(s.kind),
        array_agg(s.rpm),
        array_agg(s.tpm),
        array_agg(s.concurrent),
        array_agg(s.monthly_cap),
        array_agg(least(s.rpm, coalesce(s.request_level, s.rpm) + s.rpm * s.elapsed / 60)),
        array_agg(least(s.tpm, coalesce(s.token_level, s.tpm) + s.tpm * s.elapsed / 60)),
        array_agg(s.active),
        array_agg(s.reserved),
        array_agg(s.spent_now),
        array_agg(s.available),
        array_agg(s.currency::text),
        bool_or(s.ahead)
    INTO
        v_ids,
        v_kinds,
        v_rpm,
        v_tpm,
        v_limit,
        v_cap,
        v_requests,
        v_tokens,
        v_active,
        v_reserved,
        v_spent,
        v_available,
        v_currency,
        v_ahead
    FROM (
        SELECT
            id, kind, monthly_cap, request_level, token_level, active, reserved, currency,
            balance + credit_line AS available,
            coalesce(requests_per_minute, CASE kind WHEN 'project' THEN p_default_rpm END) AS rpm,
            coalesce(tokens_per_minute, CASE kind WHEN 'project' THEN p_default_tpm END) AS tpm,
            coalesce(concurrent_requests, CASE kind WHEN 'project' THEN p_default_concurrent END)
                AS concurrent,
            CASE WHEN spend_month < v_month THEN 0 ELSE spent END AS spent_now,
            refilled_at > v_now AS ahead,
            greatest(extract(epoch FROM v_now - refilled_at), 0)::double precision AS elapsed
        FROM meter_scope WHERE id = ANY (v_ids) ORDER BY id
    ) s;

    -- The requests in the order of asking. Each sees what those before it took: the arrays are the
    -- books of this batch, written back once at the end.
    FOR r IN
        SELECT
            n.request_id, n.model_id, n.prompt, n.output, n.expected, n.least, n.items,
            k.id AS key_id, k.organization_id, k.project_id,
            -- The row authorises, not the token's claims: a revoked key fails at its next request.
            k.revoked_at IS NULL AND k.expires_at > v_now AND 'inference' = ANY (k.scopes)
                AND p.archived_at IS NULL AND o.status = 'active' AS live,
            k.models IS NULL OR n.model_id = ANY (k.models) AS allowed,
            price.id AS price_id, price.input_per_million, price.cached_input_per_million,
            price.output_per_million, price.item_per_million, price.currency, price.scheme <> 'flat' AS tiered,
            price.package_tokens
        FROM unnest(p_request, p_key, p_digest, p_model, p_prompt, p_output, p_expected, p_least, p_items)
            WITH ORDINALITY
            AS n (request_id, key_id, digest, model_id, prompt, output, expected, least, items, place)
        LEFT JOIN api_key k ON k.id = n.key_id AND k.token_sha256 = n.digest
        LEFT JOIN project p ON p.id = k.project_id
        LEFT JOIN organization o ON o.id = k.organization_id
        LEFT JOIN model m ON m.id = n.model_id AND m.removed_at IS NULL
        LEFT JOIN meter_scope s ON s.id = k.organization_id
        LEFT JOIN LATERAL applicable_price(m.id, k.organization_id, s.plan_id, v_now) AS price ON true
        ORDER BY n.place
    LOOP
        -- The answer's columns are variables that live through the whole loop.
        organization_id := r.organization_id;
        project_id := r.project_id;
        output_tokens := NULL;
        failed_scope := NULL;
        failed_limit := NULL;
        limit_value := NULL;
        retry_after := NULL;
        rpm := NULL;
        rpm_left := NULL;
        tpm := NULL;
        tpm_left := NULL;
        reserved := NULL;
        v_places := ARRAY[
            array_position(v_ids, r.key_id),
            array_position(v_ids, r.project_id),
            array_position(v_ids, r.organization_id)
        ];

        -- 1. Who asks, and for what. Both refusals are one for all their causes, so that they tell a
        -- stranger nothing.
        -- A scope without a row has no limits to obey: it opens nothing. One that has a row which is not
        -- ours is somebody else's just now.
        IF r.live IS NOT TRUE THEN
            verdict := 'bad_key';
            RETURN NEXT;
            CONTINUE;
        ELSIF array_position(v_places, NULL) IS NOT NULL THEN
            verdict := CASE
                WHEN (
                    SELECT count(*) FROM meter_scope WHERE id IN (r.key_id, r.project_id, r.organization_id)
                ) = 3 THEN 'contended'
                ELSE 'bad_key'
            END;
            RETURN NEXT;
            CONTINUE;
        ELSIF NOT r.allowed OR r.price_id IS NULL THEN
            verdict := 'no_model';
            RETURN NEXT;
            CONTINUE;
        END IF;

        -- 2. The worst case: all the output, and of the prompt nothing or all is cached, whichever is
        -- dearer.
        price_id := r.price_id;
        input_per_million := r.input_per_million;
        cached_input_per_million := r.cached_input_per_million;
        output_per_million := r.output_per_million;
        item_per_million := r.item_per_million;
        currency := r.currency;
        tiered := r.tiered;
        v_slack := CASE WHEN r.package_tokens IS NULL THEN 0 ELSE r.package_tokens * (
            r.input_per_million + r.cached_input_per_million + r.output_per_million
        ) * 0.000001 END;
        IF r.tiered THEN
            -- The dearest of all tiers, whatever others use up before it. Where there is no money for that, the
            -- dearest that all that are under way can come to: so a free allowance needs none.
            v_amount := v_slack + (
                r.prompt * greatest(input_per_million, cached_input_per_million)
                + r.output * output_per_million + r.items * item_per_million
            ) * 0.000001;
            FOREACH v_place IN ARRAY v_places LOOP
                CONTINUE WHEN v_available[v_place] - v_reserved[v_place] >= v_amount IS NOT FALSE
                    AND v_spent[v_place] + v_reserved[v_place] + v_amount > v_cap[v_place] IS NOT TRUE;
                SELECT r.prompt + r.output + coalesce(sum(h.worst_tokens), 0) INTO v_span
                FROM (
                    SELECT worst_tokens FROM hold
                    WHERE organization_id = r.organization_id AND model_id = r.model_id AND tiered
                    UNION ALL
                    SELECT worst_tokens FROM unnest(v_holds)
                    WHERE organization_id = r.organization_id AND model_id = r.model_id AND tiered
                ) h;
                SELECT t.input, t.cached_input, t.output, t.slack
                INTO input_per_million, cached_input_per_million, output_per_million, v_slack
                FROM farebox_tier_rates(r.price_id, r.organization_id, r.model_id, v_month, v_span) AS t;
                EXIT;
            END LOOP;
        END IF;
        verdict := 'admitted';
        output_tokens := r.output;
        v_prompt_amount := v_slack + (
            r.prompt * greatest(input_per_million, cached_input_per_million) + r.items * item_per_million
        ) * 0.000001;
        IF r.least < r.output THEN
            FOREACH v_place IN ARRAY v_places LOOP
                -- NULL where the scope has no such limit, or output costs nothing.
                v_room := floor((
                    least(v_available[v_place], v_cap[v_place] - v_spent[v_place])
                    - v_reserved[v_place] - v_prompt_amount
                ) * 1000000 / nullif(output_per_million, 0));
                IF v_room IS NOT NULL THEN
                    output_tokens := least(output_tokens, greatest(v_room, r.least));
                END IF;
            END LOOP;
        END IF;
        v_need := r.prompt::bigint + least(output_tokens, r.expected);
        v_amount := v_prompt_amount + output_tokens * output_per_million * 0.000001;
        reserved := v_amount;

        -- 3. Money: balance and caps must cover it on top of what is spent and reserved. Asked before the
        -- rates, since waiting does not help.
        IF v_amount > 0 AND v_currency[v_places[3]] <> r.currency THEN
            verdict := 'no_quota';
            failed_limit := 'currency';
            limit_value := v_available[v_places[3]];
            failed_scope := 'organization';
        END IF;
        FOREACH v_place IN ARRAY v_places LOOP
            EXIT WHEN verdict = 'no_quota';
            IF v_available[v_place] - v_reserved[v_place] < v_amount THEN
                verdict := 'no_quota';
                failed_limit := 'balance';
                limit_value := v_available[v_place];
            ELSIF v_spent[v_place] + v_reserved[v_place] + v_amount > v_cap[v_place] THEN
                verdict := 'no_quota';
                failed_limit := 'monthly_cap';
                limit_value := v_cap[v_place];
            ELSE
                CONTINUE;
            END IF;
            failed_scope := v_kinds[v_place];
            EXIT;
        END LOOP;

        -- 4. Rates and concurrency. Of several that refuse, the one with the longest wait is named: after
        -- it, the others have come free as well.
        FOREACH v_place IN ARRAY v_places LOOP
            EXIT WHEN verdict = 'no_quota';
            v_wait := NULL;
            IF v_requests[v_place] < 1 THEN
                v_wait := CASE WHEN v_rpm[v_place] < 1 THEN 'infinity'::double precision
                    ELSE (1 - v_requests[v_place]) * 60 / v_rpm[v_place] END;
                IF v_wait > coalesce(retry_after, -1) THEN
                    failed_limit := 'requests_per_minute';
                    limit_value := v_rpm[v_place];
                    failed_scope := v_kinds[v_place];
                    retry_after := v_wait;
                END IF;
            END IF;
            IF v_tokens[v_place] < v_need THEN
                v_wait := CASE WHEN v_tpm[v_place] < v_need THEN 'infinity'::double precision
                    ELSE (v_need - v_tokens[v_place]) * 60 / v_tpm[v_place] END;
                IF v_wait > coalesce(retry_after, -1) THEN
                    failed_limit := 'tokens_per_minute';
                    limit_value := v_tpm[v_place];
                    failed_scope := v_kinds[v_place];
                    retry_after := v_wait;
                END IF;
            END IF;
            -- When another request ends, nobody knows: a second is a guess.
            IF v_active[v_place] >= v_limit[v_place] THEN
                v_wait := CASE WHEN v_limit[v_place] < 1 THEN 'infinity'::double precision ELSE 1 END;
                IF v_wait > coalesce(retry_after, -1) THEN
                    failed_limit := 'concurrent_requests';
                    limit_value := v_limit[v_place];
                    failed_scope := v_kinds[v_place];
                    retry_after := v_wait;
                END IF;
            END IF;
            IF v_wait IS NOT NULL THEN
                verdict := 'rate_limited';
            END IF;
        END LOOP;

        -- 5. Take it from every scope, and tell the tightest of what is left, to those refused as well.
        FOREACH v_place IN ARRAY v_places LOOP
            IF verdict = 'admitted' THEN
                v_requests[v_place] := v_requests[v_place] - 1;
                v_tokens[v_place] := v_tokens[v_place] - v_need;
                v_active[v_place] := v_active[v_place] + 1;
                v_reserved[v_place] := v_reserved[v_place] + v_amount;
            END IF;
            IF v_requests[v_place] < coalesce(rpm_left, 'infinity') THEN
                rpm := v_rpm[v_place];
                rpm_left := v_requests[v_place];
            END IF;
            IF v_tokens[v_place] < coalesce(tpm_left, 'infinity') THEN
                tpm := v_tpm[v_place];
                tpm_left := v_tokens[v_place];
            END IF;
        END LOOP;

        -- In the order of the table's columns.
        IF verdict = 'admitted' THEN
            v_holds := v_holds || ROW(
                r.request_id, p_owner, r.organization_id, r.project_id, r.key_id, r.model_id, r.price_id,
                input_per_million, cached_input_per_million, output_per_million, r.currency,
                v_need, v_amount, v_now, v_now + p_lease, false, 0, 0, 0,
                r.items, r.item_per_million, r.tiered, r.prompt::bigint + output_tokens
            )::hold;
        END IF;
        RETURN NEXT;
    END LOOP;

    -- One write for all. Refusals change nothing: a bucket refills from when it was last taken from. Unless
    -- that has not come yet: such a bucket refills from now, and does not stand still until then.
    IF cardinality(v_holds) > 0 OR v_ahead THEN
        INSERT INTO hold SELECT * FROM unnest(v_holds);
        UPDATE meter_scope s
        SET
            request_level = a.requests,
            token_level = a.tokens,
            refilled_at = v_now,
            active = a.active,
            reserved = a.reserved
        FROM unnest(v_ids, v_requests, v_tokens, v_active, v_reserved)
            AS a (id, requests, tokens, active, reserved)
        WHERE s.id = a.id;
    END IF;
END $$;
