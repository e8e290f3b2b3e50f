-- The tills write UTC; the shops live by the clock of New York, where summer time of 2017 began on 12 March at 2:00
-- and ended on 5 November at 2:00. By that clock every week of the data begins on Monday at midnight.
CREATE MACRO shop_time(moment) AS moment - CASE
    WHEN moment >= TIMESTAMP '2017-03-12 07:00:00' AND moment < TIMESTAMP '2017-11-05 06:00:00' THEN INTERVAL 4 HOUR
    ELSE INTERVAL 5 HOUR
END;
