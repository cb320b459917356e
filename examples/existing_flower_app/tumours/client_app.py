"""A hospital."""

from __future__ import annotations

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch.utils.data import TensorDataset

from tumours.task import Net, load_data, test, train

app = ClientApp()


@app.train()
def on_train(message: Message, context: Context) -> Message:
    net, trainset, _ = prepare(message, context)
    loss = train(
        net,
        trainset,
        epochs=int(context.run_config.get("local-epochs", 2)),
        lr=float(context.run_config.get("lr", 0.1)),
        seed=int(message.content["config"]["server-round"]),
    )
    metrics = MetricRecord({"num-examples": len(trainset), "train_loss": loss})
    content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def on_evaluate(message: Message, context: Context) -> Message:
    net, _, testset = prepare(message, context)
    metrics = MetricRecord({"num-examples": len(testset), "accuracy": test(net, testset)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def prepare(message: Message, context: Context) -> tuple[Net, TensorDataset, TensorDataset]:
    net = Net()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    node = context.node_config
    return net, *load_data(int(node["partition-id"]), int(node["num-partitions"]))
