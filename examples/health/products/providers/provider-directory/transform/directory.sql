SELECT provider_id, name, city FROM registry
