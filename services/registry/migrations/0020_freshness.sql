-- How far each model's story has come is asked every few seconds: the newest ended version of its
-- dataset, and the claims about newer ones, each found by its index.
create index claim_ended on claim (dataset, model, dataset_version desc) where weight >= 1000;
create index claim_story on claim (dataset, model, dataset_version) where dataset is not null;
