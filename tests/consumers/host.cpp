// A C++17 host: handles in unique pointers, callbacks from lambdas, errors as exceptions.
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <encdiff/encdiff.h>

namespace
{

template <auto Free> struct Deleter {
    template <typename Handle> void operator()(Handle *handle) const { Free(handle); }
};
using Context = std::unique_ptr<encdiff_context, Deleter<encdiff_context_free>>;
using Model = std::unique_ptr<encdiff_model, Deleter<encdiff_model_free>>;
using Dataset = std::unique_ptr<encdiff_dataset, Deleter<encdiff_dataset_free>>;
using Trainer = std::unique_ptr<encdiff_trainer, Deleter<encdiff_trainer_free>>;

void check(encdiff_context *context, encdiff_status status)
{
    if (status != ENCDIFF_OK)
        throw std::runtime_error(std::string(encdiff_status_name(status)) + ": " + encdiff_context_error(context));
}

const char config[] = R"({"image": {"resolution": 16}, "autoencoder": {"kind": "average", "factor": 4},
    "encoder": {"d": 8, "latent_unit": 4, "context_dim": 8},
    "unet": {"model_channels": 32, "channel_mult": [1, 1], "num_res_blocks": 1, "attention_resolutions": [2],
             "num_heads": 2}, "train_encdiff": {"batch_size": 4, "warm_up_steps": 0}})";

Context make_context(std::string &log)
{
    encdiff_context_options options;
    encdiff_context_options_init(&options, sizeof options);
    options.threads = 2;
    options.log_level = ENCDIFF_LOG_DEBUG;
    options.log = [](encdiff_log_level, const char *message, void *user) {
        static_cast<std::string *>(user)->append(message).append("\n");
    };
    options.log_user = &log;
    encdiff_context *context = nullptr;
    if (encdiff_context_create(&options, &context) != ENCDIFF_OK) throw std::runtime_error(log);
    return Context(context);
}

void run()
{
    std::string log;
    Context context = make_context(log);
    encdiff_model *model = nullptr;
    check(context.get(), encdiff_model_create(context.get(), config, 0, &model));
    Model own_model(model);
    encdiff_dataset_options options;
    encdiff_dataset_options_init(&options, sizeof options);
    options.height = 16;
    encdiff_dataset *scenes = nullptr;
    check(context.get(), encdiff_dataset_open(context.get(), "procedural:shapes3d", &options, &scenes));
    Dataset own_scenes(scenes);
    encdiff_trainer *trainer = nullptr;
    check(context.get(), encdiff_trainer_create(model, scenes, nullptr, &trainer));
    Trainer own_trainer(trainer);
    std::vector<double> losses;
    auto note = [](const encdiff_train_report *report, void *user) -> int32_t {
        static_cast<std::vector<double> *>(user)->push_back(report->loss);
        return 0;
    };
    check(context.get(), encdiff_trainer_run(trainer, 3, note, &losses));
    if (losses.size() != 3) throw std::runtime_error("a report for each step");
    try {
        check(context.get(), encdiff_model_load(context.get(), "/no/such/file", &model));
        throw std::logic_error("a missing file went unnoticed");
    } catch (const std::runtime_error &error) {
        if (!std::string(error.what()).find("/no/such/file")) throw std::logic_error("the file is not named");
    }
    if (model) throw std::logic_error("a handle after a failure");
}

} // namespace

int main()
{
    try {
        run();
    } catch (const std::exception &error) {
        std::printf("host.cpp: %s\n", error.what());
        return 1;
    }
    std::printf("host.cpp: ok, encdiff %s\n", encdiff_version());
    return 0;
}
