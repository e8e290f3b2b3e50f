-- Where an article was promoted, from its two codes; an article that was not in the plan has none.
CREATE MACRO promotion_kind(on_display, in_mailer) AS CASE
    WHEN on_display AND in_mailer THEN 'both'
    WHEN on_display THEN 'display'
    WHEN in_mailer THEN 'mailer'
    ELSE 'none'
END;
